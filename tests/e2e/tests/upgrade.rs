//! A node process is replaced under load: plaintext PostgreSQL sessions move in whatever state they
//! are, everything else ends where it began, and nobody is refused.
//!
//! The lab of this tier speaks to its database without TLS, has policies of its own, and is used by
//! nobody else.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

/// Kinds of sessions in `tests/python/upgrade_load.py`.
const KINDS: [&str; 9] = [
    "idle",
    "prepared",
    "transaction",
    "failed_transaction",
    "copy_out",
    "copy_in",
    "mid_result",
    "cursor",
    "held",
];
const SESSIONS: usize = 200;
const UPGRADES: usize = 10;
/// Threads that connect, ask and leave meanwhile.
const WORKERS: usize = 4;
const SHIPPED_WITHIN: Duration = Duration::from_secs(60);
const TABLES: &str = "drop table if exists upgraded, upgraded_in;
    create table upgraded (id int primary key, secret text, body text);
    insert into upgraded
        select g, 'secret-' || g, repeat('x', 1000) from generate_series(0, 11999) g;
    create table upgraded_in (id int, who int, body text);
    grant all on upgraded, upgraded_in to weir_app";

struct Load {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Load {
    fn start(lab: &Lab, sessions: usize, rounds: usize, sslmode: &str) -> Result<Self> {
        let python = Lab::python_binary()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/upgrade_load.py");
        let script = script.canonicalize().context("the script")?;
        let numbers = [sessions, rounds, WORKERS].map(|number| number.to_string());
        let mut command = vec![python.as_str(), "-B", script.to_str().context("a path")?];
        command.extend(numbers.iter().map(String::as_str));
        command.push(sslmode);
        let mut child = lab.interactive("operator", &command)?;
        let out = child.stdout.take().context("its output")?;
        Ok(Self {
            child,
            said: BufReader::new(out).lines(),
        })
    }

    fn line(&mut self) -> Result<String> {
        let line = self.said.next().context("the load ended")?;
        line.context("its output")
    }

    /// Waits until every session stands where it should.
    fn at(&mut self, round: usize) -> Result<()> {
        let line = self.line()?;
        ensure!(line == format!("AT {round}"), "{line}");
        Ok(())
    }

    fn go_on(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("its input")?;
        writeln!(input, "go").context("its input")
    }

    fn end(mut self) -> Result<Value> {
        let line = self.line()?;
        ensure!(self.child.wait().context("its end")?.success(), "{line}");
        serde_json::from_str(&line).with_context(|| line.clone())
    }
}

fn approve_all(lab: &Lab) -> Result<usize> {
    // A reviewer's sign-in is held in the memory of one process.
    lab.sign_in("alice")?;
    let list = lab.weir_json(&["approvals", "ls"])?;
    let pending: Vec<&str> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter(|row| row["state"] == "pending")
        .filter_map(|row| row["id"].as_str())
        .collect();
    for id in &pending {
        let said = lab.weir(&["approvals", "approve", id, "--justification", "a test"])?;
        ensure!(said.code == 0, "{said:?}");
    }
    Ok(pending.len())
}

#[test]
fn sessions_in_every_state_move_again_and_again_without_an_error() -> Result<()> {
    let mut lab = Lab::current()?;
    lab.server(TABLES)?;
    let mut load = Load::start(&lab, SESSIONS, UPGRADES, "disable")?;
    for round in 0..UPGRADES {
        load.at(round)?;
        let before = lab.pid("node")?;
        lab.upgrade()?;
        ensure!(lab.pid("node")? != before, "nothing was replaced");
        if round + 1 == UPGRADES {
            let held = approve_all(&lab)?;
            ensure!(held >= SESSIONS / KINDS.len(), "only {held} were held");
        }
        load.go_on()?;
    }
    let ended = load.end()?;
    ensure!(ended["failed"] == 0, "{ended:#}");
    for (index, kind) in KINDS.iter().enumerate() {
        let want = (SESSIONS - index).div_ceil(KINDS.len());
        ensure!(ended["good"][*kind] == want, "{kind}: {ended:#}");
    }
    ensure!(ended["good"]["worker"].as_u64() > Some(10), "{ended:#}");
    recorded(&lab)
}

/// Sessions and rounds of the test with both.
const BOTH: (usize, usize) = (36, 6);

#[test]
fn sessions_in_every_state_outlive_brokers_and_move_between_them() -> Result<()> {
    let mut lab = Lab::current()?;
    lab.server(TABLES)?;
    let (sessions, rounds) = BOTH;
    let mut load = Load::start(&lab, sessions, rounds, "disable")?;
    for round in 0..rounds {
        load.at(round)?;
        match round {
            // A broker that is killed, and one that is asked to end.
            0..=2 => lab.restart_broker(round != 1)?,
            // One that is killed while sessions move.
            3 => {
                let before = lab.pid("node")?;
                let upgrade = lab.upgrade_started()?;
                until("another node", SHIPPED_WITHIN, || {
                    lab.refresh()?;
                    Ok((lab.pid("node")? != before).then_some(()))
                })?;
                lab.restart_broker(true)?;
                let said = finish(upgrade)?;
                ensure!(said.code == 0, "{said:?}");
                lab.refresh()?;
            }
            _ => lab.upgrade()?,
        }
        if round + 1 == rounds {
            let held = approve_all(&lab)?;
            ensure!(held >= sessions / KINDS.len(), "only {held} were held");
        }
        load.go_on()?;
    }
    let ended = load.end()?;
    ensure!(ended["failed"] == 0, "{ended:#}");
    for (index, kind) in KINDS.iter().enumerate() {
        let want = (sessions - index).div_ceil(KINDS.len());
        ensure!(ended["good"][*kind] == want, "{kind}: {ended:#}");
    }
    ensure!(ended["good"]["worker"].as_u64() > Some(10), "{ended:#}");
    let said = lab.weir(&["audit", "verify"])?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

/// All of it is in the store, and proven.
fn recorded(lab: &Lab) -> Result<()> {
    let moves = "select count() from weir.fact where kind = 'flow' and status = 'moved'";
    let least = SESSIONS * UPGRADES * 9 / 10;
    until("the moves are in the store", SHIPPED_WITHIN, || {
        let count: usize = lab.store(moves)?.trim().parse().context("a number")?;
        Ok((count >= least).then_some(()))
    })?;
    let gaps = "select count() from (select session_id, max(seq) - count() as gap from weir.fact \
        where session_id != 0 \
        group by session_id having gap != 0)";
    until("no session has a gap", SHIPPED_WITHIN, || {
        Ok((lab.store(gaps)?.trim() == "0").then_some(()))
    })?;
    let said = lab.weir(&["audit", "verify"])?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

#[test]
fn what_cannot_move_ends_where_it_began_and_new_flows_do_not_wait_for_it() -> Result<()> {
    let mut lab = Lab::current()?;
    let through = |seconds: &str| format!("select pg_sleep({seconds}), 'through' as it;");
    let encrypted = lab.psql_started("operator", &format!("{}\n{}", through("4"), through("0")))?;
    let ssh = ["ssh", "host.demo.internal", "sleep 4 && echo through"];
    let ssh = lab.started("operator", &ssh)?;
    let watch = [
        "kubectl",
        "get",
        "configmaps",
        "--watch",
        "--request-timeout=4s",
    ];
    let watch = lab.started("operator", &watch)?;
    let mut flows = 0;
    until("three flows", Duration::from_secs(20), || {
        flows = lab.weir_json(&["flows"])?.as_array().map_or(0, Vec::len);
        Ok((flows >= 3).then_some(()))
    })?;
    let before = lab.pid("node")?;
    lab.upgrade()?;
    let new = lab.psql("operator", "select 'new' as it;")?;
    ensure!(new.code == 0 && new.has("new"), "{new:?}");
    let still = Path::new(&format!("/proc/{before}")).exists();
    ensure!(still, "the process before left while it had flows");
    let encrypted = finish(encrypted)?;
    ensure!(
        encrypted.code == 0 && encrypted.out.matches("through").count() == 2,
        "{encrypted:?}"
    );
    let ssh = finish(ssh)?;
    ensure!(ssh.code == 0 && ssh.out.trim() == "through", "{ssh:?}");
    let watch = finish(watch)?;
    ensure!(!watch.has("refused") && !watch.has("reset"), "{watch:?}");
    until("the process before leaves", Duration::from_secs(30), || {
        let stat = std::fs::read_to_string(format!("/proc/{before}/stat"));
        Ok(stat.map_or(Some(()), |stat| stat.contains(") Z ").then_some(())))
    })
}
