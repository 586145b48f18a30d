//! The enforcer dies: nothing protected passes, nothing executed is lost.
#![expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is taken from the clock"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, finish};
use weir_e2e::{until, wire};

/// How long the kernel may take to notice that the enforcer is gone.
const CLOSED_WITHIN: Duration = Duration::from_secs(5);
const SHIPPED_WITHIN: Duration = Duration::from_secs(40);

fn protected(lab: &Lab) -> Result<String> {
    let script = wire::connect(&lab.name("LAB_DB_V4")?, &lab.name("LAB_DB_PORT")?);
    Ok(lab.python("analyst", &script)?.out.trim().to_owned())
}

#[test]
fn without_the_node_protected_connects_are_refused_and_others_work() -> Result<()> {
    let mut lab = Lab::current()?;
    let elsewhere =
        TcpListener::bind((lab.name("LAB_HOST_V4")?.as_str(), 0)).context("a server")?;
    let port = elsewhere
        .local_addr()
        .context("its address")?
        .port()
        .to_string();
    let other = wire::connect(&lab.name("LAB_HOST_V4")?, &port);
    ensure!(protected(&lab)? == "open", "before");

    lab.kill("node")?;
    let refused = until("connects are refused", CLOSED_WITHIN, || {
        Ok((protected(&lab)? == "ConnectionRefusedError").then_some(()))
    });
    let others = lab.python("analyst", &other)?;
    let psql = lab.psql("analyst", "select 1;")?;
    lab.start_again()?;
    refused?;
    ensure!(
        others.out.trim() == "open",
        "an unprotected connect fails: {others:?}"
    );
    ensure!(psql.code != 0, "psql works without the node: {psql:?}");

    let said = lab.psql("analyst", "select 1 + 1 as sum;")?;
    ensure!(said.code == 0, "after the restart: {said:?}");
    Ok(())
}

/// Keys of `insert into ledger values (KEY, …` in any text, with how often they occur.
fn keys(text: &str, from: i64) -> BTreeMap<i64, usize> {
    let mut keys = BTreeMap::new();
    for rest in text.split("insert into ledger values (").skip(1) {
        if let Some(key) = rest
            .split(',')
            .next()
            .and_then(|key| key.parse::<i64>().ok())
            && (from..from + 100_000).contains(&key)
        {
            *keys.entry(key).or_insert(0) += 1;
        }
    }
    keys
}

fn spool(lab: &Lab) -> Result<String> {
    let mut text = String::new();
    let mut folders = vec![std::path::PathBuf::from(lab.name("LAB_SPOOL")?)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&String::from_utf8_lossy(&std::fs::read(&path)?));
            }
        }
    }
    Ok(text)
}

#[test]
fn a_kill_during_writes_loses_no_statement_and_doubles_none() -> Result<()> {
    let mut lab = Lab::current()?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    for round in 0..3_i64 {
        let first = (i64::try_from(now.as_secs()).context("seconds")? * 10 + round) * 1_000_000;
        let script = wire::LOAD.replace("FIRST", &first.to_string());
        let mut client = lab.python_started("operator", &script)?;
        let mut lines = BufReader::new(client.stdout.take().context("its output")?).lines();
        // A different moment each time: after some acknowledgements and some microseconds.
        let wanted = 40 + u64::from(now.subsec_nanos()) % 60 * (u64::try_from(round)? + 1);
        for _acknowledged in 0..wanted {
            let line = lines.next().context("the client ended early")??;
            ensure!(line.parse::<i64>().is_ok(), "the client said {line}");
        }
        lab.kill("node")?;
        let acknowledged = lines
            .map_while(Result::ok)
            .filter(|line| line.parse::<i64>().is_ok());
        let acknowledged = acknowledged.count() + usize::try_from(wanted)?;
        client.wait().context("the client")?;

        let executed = keys(&lab.server_log()?, first);
        let spooled = keys(&spool(&lab)?, first);
        lab.start_again()?;
        ensure!(
            executed.len() >= acknowledged,
            "{} < {acknowledged}",
            executed.len()
        );
        let lost: Vec<&i64> = executed
            .keys()
            .filter(|key| !spooled.contains_key(key))
            .collect();
        ensure!(lost.is_empty(), "executed, not in the spool: {lost:?}");

        let sql = format!(
            "select statement from weir.fact where toInt8(kind) = 3 \
             and position(statement, 'insert into ledger values ({}') > 0",
            first / 1_000_000
        );
        let stored = until("the spool is shipped", SHIPPED_WITHIN, || {
            let stored = keys(&lab.store(&sql)?, first);
            Ok(executed
                .keys()
                .all(|key| stored.contains_key(key))
                .then_some(stored))
        })?;
        let doubled: Vec<_> = stored.iter().filter(|(_, count)| **count != 1).collect();
        ensure!(
            doubled.is_empty(),
            "more than once in the store: {doubled:?}"
        );
    }
    Ok(())
}

#[test]
fn an_unreachable_store_stops_nobody_and_nothing_is_lost() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("outage{}", std::process::id());
    // SIGSTOP: the store neither answers nor refuses.
    let pid = lab.pid("store")?.to_string();
    let signal = |name: &str| {
        std::process::Command::new("kill")
            .args([name, &pid])
            .status()
    };
    signal("-STOP").context("stopping the store")?;
    let said = lab.psql("analyst", &format!("select 1 as {mark};"));
    signal("-CONT").context("continuing the store")?;
    let said = said?;
    ensure!(said.code == 0, "{said:?}");
    until(
        "the statement arrives after the outage",
        SHIPPED_WITHIN,
        || {
            let sql =
                format!("select count() from weir.fact where position(statement, '{mark}') > 0");
            Ok((lab.store(&sql)?.trim() == "1").then_some(()))
        },
    )
}

#[test]
fn a_revoked_session_ends_within_a_second_while_the_node_is_stopped() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let mut session = lab.psql_started("operator", "select pg_sleep(60);")?;
    until("a live session", Duration::from_secs(20), || {
        let flows = lab.weir_json(&["flows"])?;
        let mut flows = flows.as_array().into_iter().flatten();
        Ok(flows
            .any(|flow| flow["workload"] == "operator" && flow["principal"] != "")
            .then_some(()))
    })?;
    lab.signal("node", "STOP")?;
    let asked = std::time::Instant::now();
    let revoke = lab.weir_started(&["revoke", "workload", "operator", "--reason", "a test"])?;
    let ended = until("the session ends", Duration::from_secs(5), || {
        Ok(session.try_wait().context("psql")?.map(|_| asked.elapsed()))
    });
    // It reads what it was asked meanwhile, and keeps the workload out.
    lab.signal("node", "CONT")?;
    let revoked = finish(revoke)?;
    let kept_out = lab.psql("operator", "select 1;")?;
    let lifted = lab.weir(&["revoke", "lift", "workload", "operator"])?;
    ensure!(ended? < Duration::from_secs(1), "it took too long");
    ensure!(revoked.code == 0, "{revoked:?}");
    ensure!(kept_out.code != 0, "{kept_out:?}");
    ensure!(lifted.code == 0, "{lifted:?}");
    let said = lab.psql("operator", "select 1;")?;
    ensure!(said.code == 0, "after it was lifted: {said:?}");
    Ok(())
}
