//! How a stock client and Weir come to terms: TLS asked for or from the first byte, protocol 3.0 and
//! 3.2, keys to cancel by of both.

use anyhow::{Result, ensure};
use weir_e2e::lab::Lab;

/// One line for each way: TLS, protocol version, a masked value, what came of a cancel. libpq 18 is in
/// the driver.
const WAYS: &str = r#"
import threading
import psycopg

for ways in [
    "sslmode=disable",
    "sslmode=require",
    "sslmode=require sslnegotiation=direct",
    "sslmode=disable min_protocol_version=3.2 max_protocol_version=3.2",
    "sslmode=require sslnegotiation=direct min_protocol_version=3.2 max_protocol_version=3.2",
    "sslmode=prefer max_protocol_version=latest",
]:
    with psycopg.connect(ways, autocommit=True) as connection:
        of = connection.pgconn
        value = connection.execute("select ssn from customers where id = 1").fetchone()[0]
        begun = threading.Event()
        def cancel():
            begun.wait()
            while not done.is_set():
                connection.cancel_safe(timeout=10)
                done.wait(0.2)
        done = threading.Event()
        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            begun.set()
            connection.execute("select count(*) from customers, generate_series(1, 2000000000) n")
            cancelled = "it ran to its end"
        except psycopg.errors.QueryCanceled:
            cancelled = "cancelled"
        finally:
            done.set()
            thread.join()
        print(of.ssl_in_use, of.full_protocol_version, value, cancelled, sep="\t")
"#;

#[test]
fn every_way_of_start_up_ends_in_the_same_session() -> Result<()> {
    let lab = Lab::current()?;
    let secret = lab.server("select ssn from customers where id = 1")?;
    let said = lab.python("operator", WAYS)?;
    ensure!(said.code == 0, "{said:?}");
    let lines: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let expected = [
        ("False", "30000"),
        ("True", "30000"),
        ("True", "30000"),
        ("False", "30002"),
        ("True", "30002"),
        ("True", "30002"),
    ];
    ensure!(lines.len() == expected.len(), "{said:?}");
    for (line, (tls, version)) in lines.iter().zip(expected) {
        ensure!(line[0] == tls && line[1] == version, "{said:?}");
        ensure!(line[2] == lines[0][2] && line[3] == "cancelled", "{said:?}");
    }
    ensure!(!said.has(&secret), "{said:?}");
    Ok(())
}
