//! What an agent's statements come to: masked, allowed, refused with the session still usable.

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::Lab;
use weir_e2e::wire;

/// The values of customer 1 that no agent may see.
fn secrets(lab: &Lab) -> Result<Vec<String>> {
    let row = lab.server("select email, ssn, card from customers where id = 1")?;
    Ok(row.split('|').map(str::to_owned).collect())
}

#[test]
fn psql_reads_masked_columns_through_an_alias_a_subquery_and_a_view() -> Result<()> {
    let lab = Lab::current()?;
    let secrets = secrets(&lab)?;
    let name = lab.server("select name from customers where id = 1")?;
    for query in [
        "select id, name, email as contact, ssn number, card from customers where id = 1;",
        "select * from customers where id = 1;",
        "select s.name, s.x from (select name, ssn as x, id from customers) s where s.id = 1;",
        "select name, contact from customer_orders where customer_id = 1;",
    ] {
        let said = lab.psql("analyst", query)?;
        ensure!(
            said.code == 0 && said.out.contains(&name),
            "{query}: {said:?}"
        );
        for secret in &secrets {
            ensure!(!said.has(secret), "{query} shows {secret}");
        }
    }
    Ok(())
}

#[test]
fn an_expression_over_a_masked_column_is_withheld() -> Result<()> {
    let lab = Lab::current()?;
    let secrets = secrets(&lab)?;
    let said = lab.psql(
        "analyst",
        "select upper(email), ssn || '' from customers where id = 1;",
    )?;
    for secret in secrets
        .iter()
        .flat_map(|secret| [secret.clone(), secret.to_uppercase()])
    {
        ensure!(!said.has(&secret), "{secret} in {said:?}");
    }
    Ok(())
}

#[test]
fn a_driver_gets_the_same_masks_in_text_and_in_binary() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("analyst", wire::TEXT_AND_BINARY)?;
    ensure!(said.code == 0, "{said:?}");
    let rows: Vec<Vec<&str>> = said
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    ensure!(
        rows.len() == 2 && rows[0][0] == "text" && rows[1][0] == "binary",
        "{said:?}"
    );
    ensure!(
        rows[0][1..] == rows[1][1..],
        "text and binary differ: {rows:?}"
    );
    for secret in secrets(&lab)? {
        ensure!(!said.has(&secret), "{secret} in {said:?}");
    }
    Ok(())
}

#[test]
fn writes_depend_on_the_entra_group() -> Result<()> {
    let lab = Lab::current()?;
    let update = "update orders set note = 'e2e' where id = 11;";
    let said = lab.psql("operator", update)?;
    ensure!(said.has("UPDATE 1"), "{said:?}");
    ensure!(lab.server("select note from orders where id = 11")? == "e2e");
    let said = lab.psql(
        "analyst",
        "update orders set note = 'analyst' where id = 11;",
    )?;
    ensure!(said.has("42501"), "{said:?}");
    ensure!(lab.server("select note from orders where id = 11")? == "e2e");
    Ok(())
}

#[test]
fn a_refusal_names_the_rule_and_keeps_the_session() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql(
        "operator",
        "drop table orders;\nselect 'still' || ' here';\n",
    )?;
    ensure!(said.err.contains("42501"), "{said:?}");
    ensure!(said.out.contains("still here"), "{said:?}");
    ensure!(lab.server("select count(*) from orders")? == "600");
    Ok(())
}

#[test]
fn a_refusal_inside_a_transaction_fails_the_transaction_only() -> Result<()> {
    let lab = Lab::current()?;
    let script = "begin;\nupdate orders set note = 'gone' where id = 12;\ndrop table orders;\n\
                  select 1;\nrollback;\nselect 'after' || 'wards';\n";
    let said = lab.psql("operator", script)?;
    ensure!(
        said.has("42501") && said.out.contains("afterwards"),
        "{said:?}"
    );
    ensure!(lab.server("select coalesce(note, '') <> 'gone' from orders where id = 12")? == "t");
    Ok(())
}

#[test]
fn who_sends_more_than_a_message_may_hold_reads_why() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql(
        "operator",
        &format!("select length('{}');\n", "x".repeat(20 << 20)),
    )?;
    ensure!(
        said.err
            .contains("the message is larger than this gateway takes"),
        "{}",
        said.err
    );
    Ok(())
}

#[test]
fn no_size_passes_undecided() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("operator", wire::LARGE)?;
    ensure!(
        said.has("42501") || said.has("54000") || said.out.contains("error"),
        "{said:?}"
    );
    ensure!(lab.server("select count(*) from orders")? == "600");
    let log = lab.server_log()?;
    ensure!(
        !log.contains("*/ drop table orders"),
        "the server saw the DROP"
    );
    Ok(())
}

#[test]
fn a_wrong_password_of_the_client_does_not_matter() -> Result<()> {
    let lab = Lab::current()?;
    let command = ["env", "PGPASSWORD=wrong", "psql", "-XAtc", "select 40 + 2"];
    let said = lab.exec("analyst", &command, "")?;
    ensure!(said.out.trim() == "42", "{said:?}");
    Ok(())
}

#[test]
fn the_server_is_reached_over_ipv6_as_well() -> Result<()> {
    let lab = Lab::current()?;
    let host = format!("PGHOST={}", lab.name("LAB_DB_V6")?);
    let said = lab.exec("analyst", &["env", &host, "psql", "-XAtc", "select 6"], "")?;
    ensure!(said.out.trim() == "6", "{said:?}");
    let denied = lab.exec(
        "analyst",
        &["env", &host, "psql", "-Xc", "drop table orders"],
        "",
    )?;
    ensure!(denied.code != 0 && lab.server("select count(*) from orders")? == "600");
    Ok(())
}

#[test]
fn psql_describes_tables() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql("analyst", "\\d customers\n\\dt\n")?;
    ensure!(
        said.out.contains("ssn") && said.out.contains("orders"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn what_happened_is_in_the_store_and_secrets_are_not() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("mark{}", std::process::id());
    let query =
        format!("select name, ssn as {mark} from customers where id = 1;\ndrop table {mark};\n");
    lab.psql("analyst", &query)?;
    let sql = format!(
        "select tenant, application, arrayStringConcat(groups, ','), exe, cgroup_path, \
         arrayStringConcat(effects, ','), rule, status, rows, statement \
         from weir.fact where session_id in \
         (select session_id from weir.fact where position(statement, '{mark}') > 0) order by seq"
    );
    let within = std::time::Duration::from_secs(20);
    let facts = weir_e2e::until("the facts are shipped", within, || {
        let facts = lab.store(&sql)?;
        Ok(facts.contains("drop table").then_some(facts))
    })?;
    for needle in [
        lab.name("LAB_TENANT")?,
        lab.name("LAB_ANALYST_CLIENT_ID")?,
        lab.name("LAB_GROUP_ANALYSTS")?,
        lab.name("LAB_ANALYST_CGROUP")?,
        "psql".to_owned(),
        "readColumn".to_owned(),
    ] {
        ensure!(facts.contains(&needle), "no {needle} in {facts}");
    }
    let ssn = secrets(&lab)?.into_iter().nth(1).context("an SSN")?;
    let leaked =
        format!("select count() from weir.fact where position(response_masked, '{ssn}') > 0");
    ensure!(lab.store(&leaked)?.trim() == "0", "an SSN is in the record");
    Ok(())
}
