//! The broker ends and comes again: live sessions do not notice, new ones wait for it, and what the
//! next broker has to know of them it knows.
#![expect(
    clippy::disallowed_methods,
    reason = "what is waited for has limits by the wall clock"
)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

const WITHIN: Duration = Duration::from_secs(20);

/// A psql whose next statement is typed when the test says so.
struct Session {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn open(lab: &Lab, agent: &str) -> Result<Self> {
        let mut child = lab.psql_open(agent)?;
        let out = child.stdout.take().context("its output")?;
        let mut session = Self {
            child,
            said: BufReader::new(out).lines(),
        };
        session.answers("select 'here';", "here")?;
        Ok(session)
    }

    fn types(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("its input")?;
        writeln!(input, "{line}").context("typing")
    }

    fn answers(&mut self, statement: &str, wanted: &str) -> Result<()> {
        self.types(statement)?;
        loop {
            let line = self
                .said
                .next()
                .context("it ended")?
                .context("its output")?;
            if line == wanted {
                return Ok(());
            }
            // The tags of other statements.
            let tag = line.chars().next().is_some_and(char::is_uppercase);
            ensure!(tag, "{line} instead of {wanted}");
        }
    }

    fn ends(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let said = finish(self.child)?;
        ensure!(said.code == 0 && said.err.is_empty(), "{said:?}");
        Ok(())
    }
}

#[test]
fn sessions_go_on_and_new_ones_begin_whatever_becomes_of_the_broker() -> Result<()> {
    let mut lab = Lab::current()?;
    let node = lab.pid("node")?;
    let mut idle = Session::open(&lab, "analyst")?;
    let mut transaction = Session::open(&lab, "operator")?;
    let mut copy = Session::open(&lab, "operator")?;
    let table = format!("restarted_{}", std::process::id());
    lab.server(&format!(
        "create table {table} (id int); grant all on {table} to weir_app"
    ))?;
    transaction.types("begin;")?;
    transaction.answers(&format!("select count(*) from {table};"), "0")?;
    copy.types(&format!("copy {table} from stdin;"))?;
    for row in 0..1000 {
        copy.types(&row.to_string())?;
    }
    for insist in [true, false, true] {
        let before = lab.pid("broker")?;
        lab.signal("broker", if insist { "KILL" } else { "TERM" })?;
        // It finds a listener, and waits for the one who makes its socket to the server.
        let new = lab.psql_started("analyst", "select 'new' as it;")?;
        lab.restart_broker(insist)?;
        ensure!(lab.pid("broker")? != before, "nothing was replaced");
        let new = finish(new)?;
        ensure!(new.code == 0 && new.has("new"), "{new:?}");
        idle.answers("select 'still';", "still")?;
        transaction.answers("select 'inside';", "inside")?;
        copy.types("7")?;
    }
    copy.types("\\.")?;
    copy.answers(&format!("select count(*) from {table};"), "1003")?;
    transaction.types("rollback;")?;
    // The administrator's socket leads to the same node, and the next broker knows its flows.
    let flows = lab.weir_json(&["flows"])?;
    let flow = flows.as_array().into_iter().flatten();
    let mut of_analyst = flow.filter(|flow| flow["workload"] == "analyst");
    let id = of_analyst.next().context("the idle session")?["session"].clone();
    ensure!(lab.pid("node")? == node, "the node was replaced");
    copy.ends()?;
    transaction.ends()?;
    lab.sign_in("alice")?;
    lab.signal("node", "STOP")?;
    let asked = Instant::now();
    let revoke = ["revoke", "session", id.as_str().context("an id")?];
    let revoke = lab.weir_started(&[&revoke[..], &["--reason", "a test"]].concat());
    let ended = until("the session is reset", WITHIN, || {
        // A reset is only seen by who writes.
        let _ended = idle.types("select 1;");
        Ok(idle
            .child
            .try_wait()
            .context("psql")?
            .map(|_| asked.elapsed()))
    });
    lab.signal("node", "CONT")?;
    let revoked = finish(revoke?)?;
    lab.server(&format!("drop table {table}"))?;
    ensure!(revoked.code == 0, "{revoked:?}");
    ensure!(ended? < Duration::from_secs(5), "it took too long");
    Ok(())
}

#[test]
fn a_node_follows_another_under_a_broker_that_came_later() -> Result<()> {
    let mut lab = Lab::current()?;
    lab.restart_broker(true)?;
    let mut session = Session::open(&lab, "analyst")?;
    let before = lab.pid("node")?;
    lab.upgrade()?;
    ensure!(lab.pid("node")? != before, "nothing was replaced");
    // The one before drains: it comes back to the next broker as what it is.
    lab.restart_broker(true)?;
    session.answers("select 'drains';", "drains")?;
    let new = lab.psql("operator", "select 'new' as it;")?;
    ensure!(new.code == 0 && new.has("new"), "{new:?}");
    session.ends()?;
    until("the process before leaves", WITHIN, || {
        let stat = std::fs::read_to_string(format!("/proc/{before}/stat"));
        Ok(stat.map_or(Some(()), |stat| stat.contains(") Z ").then_some(())))
    })
}
