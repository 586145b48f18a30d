//! Grants, prior decisions and the policy commands, over the whole path.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

const SOON: Duration = Duration::from_secs(20);

fn fill(lab: &Lab) -> Result<()> {
    lab.server(
        "insert into ledger select -i, i, i from generate_series(1, 9) i on conflict do nothing",
    )?;
    Ok(())
}

fn rows(lab: &Lab) -> Result<String> {
    lab.server("select count(*) from ledger where id < 0")
}

fn approve(lab: &Lab, id: &str, grant: &[&str]) -> Result<()> {
    let mut arguments = vec!["approvals", "approve", id, "--justification", "e2e"];
    arguments.extend(grant);
    let said = lab.weir(&arguments)?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

/// Starts a statement that waits, and gives its approval.
fn held(lab: &Lab, sql: &str) -> Result<(Child, String)> {
    let waiting = lab.psql_started("operator", &format!("{sql};\n"))?;
    let id = lab.held(sql)?;
    Ok((waiting, id))
}

fn running(lab: &Lab, text: &str) -> Result<()> {
    let sql = format!(
        "select count(*) from pg_stat_activity where state = 'active' and query like '%{text}%' \
         and pid <> pg_backend_pid()"
    );
    until("a running statement", SOON, || {
        Ok((lab.server(&sql)? == "1").then_some(()))
    })
}

#[test]
fn a_grant_lets_the_same_shape_go_until_it_is_revoked() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let (waiting, id) = held(&lab, "delete from ledger where 1 = 1")?;
    approve(&lab, &id, &["--grant", "shape", "--for", "10m"])?;
    let said = finish(waiting)?;
    ensure!(said.out.contains("DELETE"), "{said:?}");

    // Another literal goes at once, another statement does not.
    fill(&lab)?;
    let said = lab.psql("operator", "delete from ledger where 2 = 2;\n")?;
    ensure!(
        said.out.contains("DELETE") && rows(&lab)? == "0",
        "{said:?}"
    );
    fill(&lab)?;
    let (waiting, other) = held(&lab, "delete from ledger")?;
    let said = lab.weir(&["approvals", "deny", &other, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    finish(waiting)?;
    let grants = lab.weir_json(&["grants", "ls"])?;
    let grant = grants
        .as_array()
        .into_iter()
        .flatten()
        .find(|grant| grant.get("id").and_then(Value::as_str) == Some(id.as_str()));
    let uses = grant.and_then(|grant| grant.get("uses")?.as_i64());
    ensure!(uses == Some(1), "{grants}");

    // Taken back: the same shape waits again.
    let said = lab.weir(&["grants", "revoke", &id, "--reason", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    let (waiting, again) = held(&lab, "delete from ledger where 3 = 3")?;
    ensure!(rows(&lab)? == "9", "it ran under a revoked grant");
    let said = lab.weir(&["approvals", "deny", &again, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    finish(waiting)?;
    Ok(())
}

#[test]
fn revoking_a_grant_ends_what_runs_under_it() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let sql = "delete from ledger where pg_sleep(600) is not null";
    let (waiting, id) = held(&lab, sql)?;
    approve(&lab, &id, &["--grant", "statement", "--for", "10m"])?;
    running(&lab, "pg_sleep(600)")?;
    let said = lab.weir(&["grants", "revoke", &id, "--reason", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = finish(waiting)?;
    ensure!(said.err.contains("grant"), "{said:?}");
    ensure!(rows(&lab)? == "9", "it ran to its end");
    Ok(())
}

#[test]
fn attack_a_statement_of_the_last_second_does_not_outlive_its_grant() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let sql = "delete from ledger where pg_sleep(601) is not null";
    let (waiting, id) = held(&lab, sql)?;
    approve(&lab, &id, &["--grant", "statement", "--for", "3s"])?;
    let said = finish(waiting)?;
    ensure!(said.err.contains("grant"), "{said:?}");
    ensure!(rows(&lab)? == "9", "it ran to its end");
    Ok(())
}

#[test]
fn a_decision_outlives_the_node_and_is_used_once() -> Result<()> {
    let mut lab = Lab::current()?;
    fill(&lab)?;
    let sql = "delete from ledger where 'outlives' = 'outlives'";
    let (waiting, id) = held(&lab, sql)?;
    lab.kill("node")?;
    finish(waiting).context("the client of the killed node")?;
    lab.start_again()?;
    lab.sign_in("alice")?;
    approve(&lab, &id, &[])?;
    let said = lab.psql("operator", &format!("{sql};\n"))?;
    ensure!(
        said.out.contains("DELETE") && rows(&lab)? == "0",
        "{said:?}"
    );
    // Once: the next one waits.
    fill(&lab)?;
    let (waiting, again) = held(&lab, sql)?;
    ensure!(
        again != id && rows(&lab)? == "9",
        "a decision was used twice"
    );
    let said = lab.weir(&["approvals", "deny", &again, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    finish(waiting)?;
    Ok(())
}

#[test]
fn attack_another_agent_does_not_use_a_grant() -> Result<()> {
    let lab = Lab::current()?;
    fill(&lab)?;
    lab.sign_in("alice")?;
    let (waiting, id) = held(&lab, "delete from ledger where 4 = 4")?;
    approve(&lab, &id, &["--grant", "shape", "--for", "10m"])?;
    finish(waiting)?;
    fill(&lab)?;
    let said = lab.psql("analyst", "delete from ledger where 4 = 4;\n")?;
    ensure!(said.err.contains("42501") && rows(&lab)? == "9", "{said:?}");
    let said = lab.weir(&["grants", "revoke", &id, "--reason", "end of the test"])?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

#[test]
fn policies_are_checked_and_learned_from_the_record() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.weir(&["policy", "check"])?;
    ensure!(said.code == 0, "{said:?}");
    let schema = Command::new(lab.name("LAB_WEIR_BINARY")?)
        .args(["policy", "schema"])
        .output()?;
    let text = String::from_utf8(schema.stdout)?;
    ensure!(
        schema.status.success() && text.contains("namespace Postgres"),
        "{text}"
    );
    let said = lab.psql("analyst", "select count(*) from orders;\n")?;
    ensure!(said.code == 0, "{said:?}");
    let day = day(&lab, "0 days")?;
    let next = self::day(&lab, "1 day")?;
    let arguments = [
        "policy",
        "learn",
        "--from",
        &day,
        "--to",
        &next,
        "--workload",
        "analyst",
    ];
    let learned = until("a record to learn from", SOON, || {
        let Ok(report) = lab.weir_json(&arguments) else {
            return Ok(None);
        };
        let policies = report.get("policies").and_then(Value::as_str);
        let there = policies.is_some_and(|text| text.contains("demo/shop/public/orders"));
        Ok(there.then_some(report))
    })?;
    let text = learned
        .get("policies")
        .and_then(Value::as_str)
        .unwrap_or_default();
    ensure!(
        !text.contains("Action::\"delete\""),
        "more than an analyst did: {text}"
    );
    Ok(())
}

fn day(lab: &Lab, later: &str) -> Result<String> {
    lab.server(&format!(
        "select to_char(now() at time zone 'UTC' + interval '{later}', 'YYYY-MM-DD')"
    ))
}

fn moment(lab: &Lab) -> Result<String> {
    // Whole seconds: what comes next lies behind it.
    let now = "select pg_sleep(1.1), to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')";
    let said = lab.server(now)?;
    Ok(said.trim_start_matches('|').to_owned())
}

/// The lab's own record stands for the days: what came before a moment, and what came behind it.
#[test]
fn a_learned_set_says_how_much_of_later_traffic_it_would_have_denied() -> Result<()> {
    let lab = Lab::current()?;
    let from = moment(&lab)?;
    let said = lab.psql("analyst", "select count(*) from orders;\n")?;
    ensure!(said.code == 0, "{said:?}");
    let to = moment(&lab)?;
    let later = "select count(*) from orders;\n".repeat(3) + "select count(*) from customers;\n";
    let said = lab.psql("analyst", &later)?;
    ensure!(said.code == 0, "{said:?}");
    let until_then = moment(&lab)?;
    let arguments = [
        "policy",
        "learn",
        "--from",
        &from,
        "--to",
        &to,
        "--until",
        &until_then,
        "--workload",
        "analyst",
        "--target",
        "demo",
    ];
    let learned = until("the record of both", SOON, || {
        let Ok(report) = lab.weir_json(&arguments) else {
            return Ok(None);
        };
        let whole = report["measured"]["requests"].as_u64() >= Some(4);
        Ok(whole.then_some(report))
    })?;
    let measured = &learned["measured"];
    ensure!(
        measured["requests"] == 4 && measured["denied"] == 1,
        "{learned}"
    );
    ensure!(learned["false_deny_rate"] == 0.25, "{learned}");
    let missing = measured["missing"].to_string();
    ensure!(
        missing.contains("select Table:demo/shop/public/customers"),
        "{missing}"
    );
    Ok(())
}
