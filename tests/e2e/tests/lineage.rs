//! Who sent each statement: also when it is gone, also when the socket was handed on.

use anyhow::{Result, ensure};
use weir_e2e::lab::Lab;

/// Statements of a plain conversation, the second of which another program sends over the same
/// socket and is gone. Its argument is the message, and a canary.
const HANDED_ON: &str = r#"
import os, socket, struct, subprocess, sys
s = socket.create_connection((os.environ["PGHOST"], 5432))
start = b"user\0weir\0database\0shop\0\0"
s.sendall(struct.pack("!ii", len(start) + 8, 196608) + start)
def ready():
    while True:
        head = s.recv(5, socket.MSG_WAITALL)
        length = struct.unpack("!i", head[1:])[0] - 4
        body = s.recv(length, socket.MSG_WAITALL) if length else b""
        assert head[:1] != b"E", body
        if head[:1] == b"Z":
            return
def query(text):
    return b"Q" + struct.pack("!i", len(text) + 5) + text.encode() + b"\0"
ready()
s.sendall(query("select 70101")); ready()
send = "import os,sys; os.write(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))"
subprocess.run(["/bin/sh", "-c", 'exec "$0" -S -c "$@"', sys.executable, send, str(s.fileno()),
    query("select 70102").hex(), "--token=hunter2canary"], pass_fds=[s.fileno()], check=True)
ready()
s.sendall(query("select 70103")); ready()
"#;

fn rows(lab: &Lab, what: &str, statement: &str, count: usize) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT {what} FROM weir.fact WHERE kind = 'request' AND statement LIKE '%{statement}%' \
         ORDER BY event_time, seq"
    );
    let mut last = String::new();
    // The shipper cuts a batch each second.
    for _ in 0..100 {
        last = lab.store(&sql)?;
        if last.lines().count() >= count {
            return Ok(last.lines().map(str::to_owned).collect());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{count} rows never came: {last}")
}

#[test]
fn a_short_lived_client_is_known_with_its_ancestors_and_without_its_secrets() -> Result<()> {
    let lab = Lab::current()?;
    let script = "psql -Atc 'select 70001' \
                  \"postgres://x:hunter2canary@$PGHOST/shop\" >/dev/null 2>&1; \
                  psql -Atc 'select 70001'; exit 0";
    let said = lab.exec("analyst", &["sh", "-c", script], "")?;
    ensure!(said.code == 0, "{said:?}");
    let what = "exe, length(exe_sha256), lineage, arrayStringConcat(parents, '|'), argv";
    for row in rows(&lab, what, "select 70001", 1)? {
        let columns: Vec<&str> = row.split('\t').collect();
        let [exe, sha, lineage, parents, argv] = columns[..] else {
            anyhow::bail!("{row}");
        };
        ensure!(exe.ends_with("/psql") && sha == "64", "{row}");
        ensure!(lineage == "kernel" && parents.contains("sh"), "{row}");
        ensure!(argv.contains("select 70001"), "{row}");
    }
    let canary = lab.store("SELECT count() FROM weir.fact WHERE argv LIKE '%hunter2canary%'")?;
    ensure!(canary.trim() == "0", "a secret in an argument is recorded");
    Ok(())
}

#[test]
fn a_socket_that_is_handed_on_changes_the_process_of_its_statements() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("analyst", HANDED_ON)?;
    ensure!(said.code == 0, "{said:?}");
    let found = rows(
        &lab,
        "statement, pid, ppid, lineage, argv",
        "select 7010",
        3,
    )?;
    let column = |row: usize, at: usize| -> String {
        let row = found.get(row).map_or("", String::as_str);
        row.split('\t').nth(at).unwrap_or_default().to_owned()
    };
    for (row, statement) in ["select 70101", "select 70102", "select 70103"]
        .into_iter()
        .enumerate()
    {
        ensure!(column(row, 0) == statement, "{found:?}");
        ensure!(column(row, 3) == "kernel", "{found:?}");
    }
    ensure!(
        column(0, 1) == column(2, 1),
        "the first speaks again: {found:?}"
    );
    ensure!(
        column(1, 1) != column(0, 1),
        "another one sent it: {found:?}"
    );
    ensure!(
        column(1, 2) == column(0, 1),
        "whose parent is the first: {found:?}"
    );
    ensure!(column(1, 4).contains("os.write"), "{found:?}");
    ensure!(!column(1, 4).contains("hunter2canary"), "{found:?}");
    Ok(())
}

#[test]
fn the_ledger_has_rows_without_a_difference() -> Result<()> {
    let lab = Lab::current()?;
    let sql = "SELECT count() > 0, countIf(difference != 0), sum(missed) FROM weir.ledger";
    for _ in 0..100 {
        if lab.store(sql)?.trim() == "1\t0\t0" {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{}", lab.store("SELECT * FROM weir.ledger")?)
}
