//! The node's signing key and its anchors: changed under a live session, believed only where they hold.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::Lab;
use weir_e2e::until;

const SHIPPED_WITHIN: Duration = Duration::from_secs(60);

fn weir(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let said = lab.weir(arguments)?;
    ensure!(said.code == 0, "weir {arguments:?}: {said:?}");
    Ok(said.out)
}

fn verified(lab: &Lab) -> Result<()> {
    until("a record that verifies", SHIPPED_WITHIN, || {
        let said = lab.weir(&["audit", "verify", "--json"])?;
        let report: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        Ok((said.code == 0 && report["verdict"] != "findings").then_some(()))
    })
}

#[test]
fn the_key_is_changed_under_a_live_session_and_all_of_it_verifies() -> Result<()> {
    let mut lab = Lab::current()?;
    let before = weir(&lab, &["audit", "key"])?;
    let mut client = lab.psql_open("analyst")?;
    let mut input = client.stdin.take().context("its input")?;
    let mut lines = BufReader::new(client.stdout.take().context("its output")?).lines();
    let mut ask = |number: u32| -> Result<()> {
        writeln!(input, "select {number};").context("psql reads")?;
        let line = lines.next().context("an answer")?.context("an answer")?;
        ensure!(line == number.to_string(), "{line}");
        Ok(())
    };
    for round in 0..3 {
        ask(round)?;
        weir(&lab, &["audit", "key", "rotate"])?;
        ask(round + 100)?;
    }
    let after = weir(&lab, &["audit", "key"])?;
    ensure!(after != before, "it is the same key");
    let history = weir(&lab, &["audit", "key", "--history"])?;
    ensure!(history.lines().count() >= 4, "{history}");
    ensure!(history.contains(before.trim()), "{history}");
    verified(&lab)?;

    // The next process signs with the newest key, and knows the others.
    drop(input);
    client.wait().context("psql ends")?;
    lab.upgrade()?;
    ensure!(weir(&lab, &["audit", "key"])? == after, "another key");
    let said = lab.psql("analyst", "select 7;")?;
    ensure!(said.out.contains('7'), "{said:?}");
    verified(&lab)?;
    let stored = lab.store("select count() from weir.node_key")?;
    ensure!(
        stored.trim().parse::<u32>().is_ok_and(|count| count >= 3),
        "{stored}"
    );
    Ok(())
}

#[test]
fn anchors_leave_the_node_while_a_segment_is_open() -> Result<()> {
    let lab = Lab::current()?;
    let count = || -> Result<u64> {
        let count = lab.store("select count() from weir.anchor")?;
        count.trim().parse().context("a number")
    };
    let before = count()?;
    let said = lab.psql("analyst", "select 'anchored';")?;
    ensure!(said.code == 0, "{said:?}");
    until("an anchor of what was just done", SHIPPED_WITHIN, || {
        Ok((count()? > before).then_some(()))
    })?;
    verified(&lab)
}
