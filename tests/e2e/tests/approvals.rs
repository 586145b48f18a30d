//! Held statements: who may decide, and what an agent can do about it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

const HELD_WITHIN: Duration = Duration::from_secs(15);

/// Id of the pending request whose statement contains the text.
fn pending(lab: &Lab, text: &str) -> Result<String> {
    until("a held request", HELD_WITHIN, || {
        let list = lab.weir_json(&["approvals", "ls"])?;
        let found = list.as_array().into_iter().flatten().find(|row| {
            let statement = row.get("statement").and_then(Value::as_str);
            statement.is_some_and(|statement| statement.contains(text))
        });
        Ok(found.and_then(|row| row.get("id")?.as_str().map(str::to_owned)))
    })
}

fn fill(lab: &Lab) -> Result<()> {
    lab.server(
        "insert into ledger select -i, i, i from generate_series(1, 9) i on conflict do nothing",
    )?;
    Ok(())
}

#[test]
fn a_delete_without_where_waits_and_runs_when_approved() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let waiting = lab.psql_started("operator", "delete from ledger; -- approve me\n")?;
    let id = pending(&lab, "delete from ledger")?;
    ensure!(
        lab.server("select count(*) > 0 from ledger")? == "t",
        "it did not wait"
    );
    let said = lab.weir(&["approvals", "approve", &id, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = finish(waiting)?;
    ensure!(said.out.contains("DELETE"), "{said:?}");
    ensure!(lab.server("select count(*) from ledger")? == "0");
    Ok(())
}

#[test]
fn a_denied_delete_does_not_run_and_the_session_goes_on() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let waiting = lab.psql_started("operator", "delete from ledger;\nselect 'on' || 'wards';\n")?;
    let id = pending(&lab, "delete from ledger")?;
    let said = lab.weir(&["approvals", "deny", &id, "--justification", "e2e says no"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = finish(waiting)?;
    ensure!(
        said.err.contains("42501") && said.out.contains("onwards"),
        "{said:?}"
    );
    ensure!(lab.server("select count(*) from ledger where id < 0")? == "9");
    Ok(())
}

#[test]
fn a_person_outside_the_reviewer_group_cannot_approve() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("bob")?;
    let waiting = lab.psql_started("operator", "delete from ledger;\n")?;
    let id = pending(&lab, "delete from ledger")?;
    let said = lab.weir(&["approvals", "approve", &id, "--justification", "I am bob"])?;
    ensure!(said.code != 0, "bob approved: {said:?}");
    ensure!(lab.server("select count(*) from ledger where id < 0")? == "9");
    lab.sign_in("alice")?;
    let said = lab.weir(&[
        "approvals",
        "deny",
        &id,
        "--justification",
        "end of the test",
    ])?;
    ensure!(said.code == 0, "{said:?}");
    finish(waiting).context("the held client ends")?;
    Ok(())
}
