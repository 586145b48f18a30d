//! Who is let in, for how long, and how that ends.

#![expect(
    clippy::disallowed_methods,
    reason = "measures how fast a revocation is by the wall clock"
)]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

/// A live `psql`, whose answers are waited for.
struct Live {
    child: Child,
    input: ChildStdin,
}

impl Live {
    /// Returns once the first statement was answered.
    fn start(lab: &Lab, agent: &str) -> Result<Self> {
        let mut child = lab.psql_open(agent)?;
        let input = child.stdin.take().context("stdin")?;
        let mut live = Self { child, input };
        live.say("select 40 + 2;")?;
        let out = live.child.stdout.as_mut().context("stdout")?;
        let mut lines = BufReader::new(out);
        loop {
            let mut line = String::new();
            let count = lines.read_line(&mut line)?;
            anyhow::ensure!(count > 0, "psql ended before it was served");
            if line.trim() == "42" {
                return Ok(live);
            }
        }
    }

    fn say(&mut self, sql: &str) -> Result<()> {
        writeln!(self.input, "{sql}").context("writing to psql")
    }

    /// What psql says once its session was ended.
    fn end(mut self) -> Result<String> {
        // psql notices at its next statement.
        let _closed = self.say("select 1;");
        drop(self.input);
        let said = finish(self.child)?;
        Ok(said.err)
    }
}

fn sessions(lab: &Lab, workload: &str) -> Result<usize> {
    let flows = lab.weir_json(&["flows"])?;
    let flows = flows.as_array().context("a list")?;
    Ok(flows
        .iter()
        .filter(|flow| flow["workload"] == workload)
        .count())
}

fn session_ends(lab: &Lab, workload: &str, within: Duration) -> Result<()> {
    until("the session's end", within, || {
        Ok((sessions(lab, workload)? == 0).then_some(()))
    })
}

#[test]
fn every_way_to_sign_in_reaches_the_database() -> Result<()> {
    let lab = Lab::current()?;
    for (agent, evidence) in [
        ("analyst", "federated"),
        ("service", "certificate"),
        ("machine", "managed"),
        ("agent", "agent_id"),
    ] {
        let said = lab.psql(agent, "select count(*) from customers;")?;
        assert_eq!(said.code, 0, "{agent}: {said:?}");
        let sql = format!(
            "select count() > 0 from weir.fact where workload = '{agent}' and evidence = '{evidence}'"
        );
        until("the record", Duration::from_secs(20), || {
            Ok((lab.store(&sql)?.trim() == "1").then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn a_process_tree_of_nobody_is_told_to_use_weir_run() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql("laptop", "select 1;")?;
    assert!(said.has("could not be signed in"), "{said:?}");
    assert_ne!(said.code, 0);
    Ok(())
}

#[test]
fn disabling_an_identity_ends_its_live_session_within_the_cadence() -> Result<()> {
    let lab = Lab::current()?;
    let live = Live::start(&lab, "operator")?;
    lab.entra("/control/disable", &json!({"app": "operator"}))?;
    // deploy/lab/weir.yaml: 5 s ± 20 %, and one round trip.
    let ended = session_ends(&lab, "operator", Duration::from_secs(10));
    let refused = lab.psql("operator", "select 1;")?;
    lab.entra("/control/enable", &json!({"app": "operator"}))?;
    ended?;
    assert!(refused.has("revoked"), "{refused:?}");
    let said = live.end()?;
    assert!(said.contains("identity has been revoked"), "{said}");
    // The refusal is repeated for 30 s without asking Entra.
    until("the way back in", Duration::from_secs(60), || {
        Ok((lab.psql("operator", "select 1;")?.code == 0).then_some(()))
    })
}

#[test]
fn revoking_a_principal_ends_its_session_in_under_a_second() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let live = Live::start(&lab, "service")?;
    let flows = lab.weir_json(&["flows"])?;
    let flow = flows
        .as_array()
        .and_then(|flows| flows.iter().find(|flow| flow["workload"] == "service"));
    let oid = flow.and_then(|flow| flow["principal"].as_str());
    let oid = oid.context("a principal")?.to_owned();
    let started = Instant::now();
    let revoked = lab.weir_json(&["revoke", "principal", &oid, "--reason", "test"])?;
    session_ends(&lab, "service", Duration::from_secs(5))?;
    let took = started.elapsed();
    assert_eq!(revoked["ended"], 1);
    let said = live.end()?;
    assert!(said.contains("revoked this identity"), "{said}");
    let refused = lab.psql("service", "select 1;")?;
    let listed = lab.weir(&["revoke", "ls"])?;
    let lifted = lab.weir(&["revoke", "lift", "principal", &oid])?;
    assert!(refused.has("revoked this identity"), "{refused:?}");
    assert!(
        listed.has(&oid) && lifted.code == 0,
        "{listed:?} {lifted:?}"
    );
    assert_eq!(lab.psql("service", "select 1;")?.code, 0);
    // Three runs of the command line are in it.
    assert!(took < Duration::from_secs(1), "{took:?}");
    Ok(())
}

#[test]
fn revoking_needs_a_sign_in_of_somebody_who_may() -> Result<()> {
    let lab = Lab::current()?;
    let oid = "0b000000-0000-4000-8000-00000000dead";
    lab.weir(&["logout"])?;
    let said = lab.weir(&["revoke", "principal", oid, "--reason", "x"])?;
    assert!(said.has("weir login") && said.code != 0, "{said:?}");
    lab.sign_in("bob")?;
    let said = lab.weir(&["revoke", "principal", oid, "--reason", "x"])?;
    assert!(said.has("none of the groups") && said.code != 0, "{said:?}");
    lab.sign_in("alice")?;
    let said = lab.weir(&["revoke", "principal", "nobody", "--reason", "x"])?;
    assert!(said.has("right form") && said.code != 0, "{said:?}");
    Ok(())
}

#[test]
fn a_revocation_outlives_the_node() -> Result<()> {
    let mut lab = Lab::current()?;
    lab.sign_in("alice")?;
    let said = lab.weir(&["revoke", "workload", "agent", "--reason", "test"])?;
    assert_eq!(said.code, 0, "{said:?}");
    lab.kill("node")?;
    lab.start_again()?;
    let refused = lab.psql("agent", "select 1;")?;
    lab.sign_in("alice")?;
    let lifted = lab.weir(&["revoke", "lift", "workload", "agent"])?;
    assert!(refused.has("revoked this identity"), "{refused:?}");
    assert_eq!(lifted.code, 0, "{lifted:?}");
    Ok(())
}

#[test]
fn a_password_is_rotated_without_a_restart() -> Result<()> {
    let lab = Lab::current()?;
    let file = lab.name("LAB_DB_PASSWORD_FILE")?;
    let before = std::fs::read_to_string(&file)?;
    let after = format!("{before}-rotated");
    let set = |password: &str| -> Result<()> {
        lab.server(&format!("alter role weir_app password '{password}'"))?;
        std::fs::write(&file, password).context("the password file")
    };
    let served = || {
        until("the password in use", Duration::from_secs(10), || {
            Ok((lab.psql("analyst", "select 1;")?.code == 0).then_some(()))
        })
    };
    set(&after)?;
    let rotated = served();
    set(&before)?;
    rotated?;
    served()
}

#[test]
fn members_of_a_group_sign_in_as_another_user_whose_password_a_vault_keeps() -> Result<()> {
    let lab = Lab::current()?;
    let reporter = |agent: &str, number: u32| -> Result<bool> {
        let asked = format!("select {number} as asked");
        let said = lab.psql(agent, &format!("{asked};"))?;
        assert_eq!(said.code, 0, "{agent}: {said:?}");
        let log = lab.server_log()?;
        let line = log.lines().find(|line| line.contains(&asked));
        let line = line.context("the statement in the server's log")?;
        Ok(line.contains("weir_reporter@"))
    };
    assert!(reporter("service", 990_017)?, "service is in reporters");
    assert!(!reporter("analyst", 990_018)?, "analyst is not");
    Ok(())
}
