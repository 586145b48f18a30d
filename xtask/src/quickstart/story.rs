//! What the demonstration shows, step by step, each with what must come of it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::said::{finish, show, until};
use super::scene::Scene;
use super::{cluster, evidence, host};
use crate::setup::python_binary;
use crate::{lab, say};

/// Reads columns in the binary format and prints them.
const BINARY_CLIENT: &str = "
import psycopg
with psycopg.connect('') as connection:
    cursor = connection.cursor(binary=True)
    cursor.execute('select id, email as contact, ssn, card from customers order by id limit 2')
    assert all(column.type_code for column in cursor.description)
    assert cursor.pgresult.fformat(1) == 1, 'not binary'
    for row in cursor:
        print(row)
";

/// Tells all of it; an error means that the story could not go on.
pub(super) fn tell(scene: &mut Scene<'_>) -> Result<()> {
    masked_reads(scene)?;
    writes(scene)?;
    drop_is_refused(scene)?;
    delete_waits_for_approval(scene)?;
    cluster::show_cluster(scene)?;
    host::show_host(scene)?;
    evidence::read_back(scene)
}

fn masked_reads(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("1. The analyst reads customers with plain psql: personal data comes back masked");
    let real = scene.server("select email||' '||ssn||' '||card from customers where id = 1")?;
    let secrets: Vec<&str> = real.split(' ').collect();
    let name = scene.server("select name from customers where id = 1")?;
    let said = scene.psql(
        "analyst",
        "select id, name, email, ssn as number, card from customers order by id limit 2;\n",
    )?;
    scene.expect(
        "the query is answered",
        said.code == 0 && said.out.contains(&name),
    );
    let leaked = secrets.iter().any(|secret| said.has(secret));
    scene.expect(
        "e-mail, SSN and card are masked, through an alias too",
        !leaked,
    );

    let python = python_binary()?.display().to_string();
    let said = scene.run("analyst", &[&python, "-c", BINARY_CLIENT])?;
    let leaked = secrets.iter().any(|secret| said.has(secret));
    scene.expect(
        "in the binary format too (psycopg)",
        said.code == 0 && !leaked,
    );
    Ok(())
}

fn writes(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("2. The two agents are told apart by their Entra groups");
    let update = "update orders set status = 'paid' where id = 7 returning id, status;\n";
    let said = scene.psql("operator", update)?;
    scene.expect("the operator's write is allowed", said.has("UPDATE 1"));
    let said = scene.psql("analyst", update)?;
    scene.expect(
        "the same write by the analyst is refused (42501)",
        said.has("42501"),
    );
    Ok(())
}

fn drop_is_refused(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("3. DROP TABLE is refused, naming the rule; the session goes on");
    let said = scene.psql(
        "operator",
        "drop table orders;\nselect count(*) as still_here from orders;\n",
    )?;
    scene.expect("DROP TABLE is refused as SQLSTATE 42501", said.has("42501"));
    scene.expect("the same session is still usable", said.out.contains("600"));
    let there = scene.server("select count(*) from orders")?;
    scene.expect("the table is untouched on the server", there == "600");
    Ok(())
}

fn delete_waits_for_approval(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("4. DELETE without WHERE is held until a signed-in reviewer approves it");
    let fill = "insert into ledger select i, i, i from generate_series(1, 25) i;\n";
    scene.psql("operator", fill)?;
    say::note("operator> delete from ledger;");
    let waiting = scene.start_psql("operator", "delete from ledger;\n")?;
    let held = until(Duration::from_secs(15), || {
        let list = scene.weir_json(&["approvals", "ls"])?;
        Ok(list.as_array().and_then(|rows| rows.first().cloned()))
    })
    .context("the DELETE was not held")?;
    let id = held
        .get("id")
        .and_then(|id| id.as_str())
        .context("an approval id")?
        .to_owned();
    let before = scene.server("select count(*) from ledger")?;
    scene.expect("while it waits, nothing is deleted", before == "25");
    show(&scene.weir(&["approvals", "ls"])?);
    lab::sign_in(scene.lab, "alice")?;
    let arguments = ["approvals", "approve", &id, "--justification", "quickstart"];
    let decided = scene.weir(&arguments)?;
    say::note(format!("$ weir {}", arguments.join(" ")));
    show(&decided);
    let said = finish(waiting)?;
    show(&said);
    scene.expect("after the approval it runs", said.has("DELETE 25"));
    let after = scene.server("select count(*) from ledger")?;
    scene.expect("and the rows are gone on the server", after == "0");
    Ok(())
}
