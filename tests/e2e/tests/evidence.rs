//! The record of a whole node: nothing lost whoever is killed, every question answered, every form of a session.
#![expect(
    clippy::disallowed_methods,
    reason = "moments come from a seed of the environment or the clock"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::{until, wire};

const COOKBOOK: &str = include_str!("../../../deploy/clickhouse/COOKBOOK.md");
const SHIPPED_WITHIN: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 4;

/// One number after the other, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let given = std::env::var("WEIR_SEED").ok();
        let seed = match given {
            Some(text) => text.parse().context("WEIR_SEED")?,
            None => u64::from(now.context("a clock")?.subsec_nanos()),
        };
        // Only shown when the test fails.
        eprint_seed(seed);
        Ok(Self(seed | 1))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[expect(clippy::print_stderr, reason = "whoever repeats the test needs it")]
fn eprint_seed(seed: u64) {
    eprintln!("WEIR_SEED={seed}");
}

/// Keys of `insert into ledger values (KEY, …` in any text, with how often they occur.
fn keys(text: &str, from: i64) -> BTreeMap<i64, usize> {
    let mut keys = BTreeMap::new();
    for rest in text.split("insert into ledger values (").skip(1) {
        let key = rest
            .split(',')
            .next()
            .and_then(|key| key.parse::<i64>().ok());
        if let Some(key) = key.filter(|key| (from..from + 100_000).contains(key)) {
            *keys.entry(key).or_insert(0) += 1;
        }
    }
    keys
}

#[test]
fn statements_of_the_server_are_in_the_record_once_whoever_is_killed() -> Result<()> {
    let mut lab = Lab::current()?;
    let mut chance = Chance::new()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let base = i64::try_from(now.context("a clock")?.as_secs())? * 100_000_000;
    for round in 0..ROUNDS {
        let first = base + i64::try_from(round)? * 1_000_000;
        let script = wire::LOAD.replace("FIRST", &first.to_string());
        let mut client = lab.python_started("operator", &script)?;
        let mut lines = BufReader::new(client.stdout.take().context("its output")?).lines();
        for _acknowledged in 0..20 + chance.below(150) {
            let line = lines.next().context("the client ended early")??;
            ensure!(line.parse::<i64>().is_ok(), "the client said {line}");
        }
        // The node, the store, or first one and then the other.
        let victims: &[&str] = match round % 4 {
            0 => &["node"],
            1 => &["store"],
            2 => &["store", "node"],
            _ => &["node", "store"],
        };
        for victim in victims {
            lab.kill(victim)?;
            std::thread::sleep(Duration::from_micros(chance.below(300_000)));
        }
        if victims.contains(&"node") {
            for line in lines.by_ref() {
                line.context("the client")?;
            }
        } else {
            client.kill().context("ending the client")?;
        }
        client.wait().context("the client")?;
        lab.start_again()?;
        let executed = keys(&lab.server_log()?, first);
        ensure!(
            executed.len() > 20,
            "the load did not run: {}",
            executed.len()
        );
        let sql = format!(
            "select statement from weir.fact where kind = 'request' and startsWith(statement, \
             'insert into ledger values ({}')",
            first / 1_000_000
        );
        let stored = until("the spool is shipped", SHIPPED_WITHIN, || {
            let stored = keys(&lab.store(&sql).unwrap_or_default(), first);
            let whole = executed.keys().all(|key| stored.contains_key(key));
            Ok(whole.then_some(stored))
        })?;
        let doubled: Vec<_> = stored.iter().filter(|(_, count)| **count != 1).collect();
        ensure!(
            doubled.is_empty(),
            "round {round}: more than once: {doubled:?}"
        );
    }
    verified(&lab)
}

/// Nothing wrong; what is written right now is not proven yet.
fn verified(lab: &Lab) -> Result<()> {
    until("a record that verifies", SHIPPED_WITHIN, || {
        let said = lab.weir(&["audit", "verify", "--json"])?;
        let report: Value = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        Ok((said.code == 0 && report["verdict"] != "findings").then_some(()))
    })
}

/// The query under a heading.
fn recipe(heading: &str) -> Result<&'static str> {
    let (_, section) = COOKBOOK
        .split_once(heading)
        .with_context(|| format!("no recipe {heading}"))?;
    let (_, rest) = section.split_once("```sql\n").context("its query")?;
    Ok(rest.split_once("```").context("its end")?.0)
}

fn answer(lab: &Lab, heading: &str) -> Result<Vec<Value>> {
    let lines = lab.store_json(recipe(heading)?)?;
    lines
        .lines()
        .map(|line| serde_json::from_str(line).context("a row"))
        .collect()
}

#[test]
fn the_cookbook_answers_for_what_was_done_in_the_lab() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("c{}", std::process::id());
    let read = format!("select id, email as {mark} from customers where id <= 3");
    let denied = format!("delete from customers where id = 1 and name = '{mark}'");
    let held = format!("update ledger set delta = delta where '{mark}' = '{mark}'");
    let said = lab.psql("analyst", &format!("{read};\n{denied};\n"))?;
    ensure!(said.has("customer") || said.code == 0, "{said:?}");
    lab.sign_in("alice")?;
    let waiting = lab.psql_started("operator", &format!("{held};\n"))?;
    let id = lab.held(&mark)?;
    let approved = lab.weir(&["approvals", "approve", &id, "--justification", "cookbook"])?;
    ensure!(approved.code == 0, "{approved:?}");
    let said = finish(waiting)?;
    ensure!(said.code == 0, "{said:?}");
    let find = |rows: &[Value], text: &str| {
        let row = rows.iter().find(|row| {
            let statement = row["statement"].as_str();
            statement.is_some_and(|statement| statement.contains(text))
        });
        row.cloned()
    };
    let done = until("the cookbook's answers", SHIPPED_WITHIN, || {
        let rows = answer(&lab, "## What did this agent do to this table?")?;
        Ok(find(&rows, "delete from customers")
            .and(find(&rows, &mark))
            .map(|_| rows))
    })?;
    let row = find(&done, &format!("as {mark}")).context("the read")?;
    ensure!(row["verdict"] == "allow", "{row}");
    let refused = done
        .iter()
        .find(|row| row["verdict"] == "deny" && row.to_string().contains(&mark));
    let rule = refused.context("the refused delete")?["rule"].clone();

    let seen = until("who saw it", SHIPPED_WITHIN, || {
        let rows = answer(&lab, "## Who saw this column, and was it masked?")?;
        Ok(find(&rows, &format!("as {mark}")))
    })?;
    ensure!(
        seen["workload"] == "analyst" && seen["result_rows"] == 3,
        "{seen}"
    );
    ensure!(seen["masked_values"] == 3, "{seen}");
    ensure!(seen["mask_rules"].to_string().contains("email"), "{seen}");

    let outcome = until("what was held", SHIPPED_WITHIN, || {
        let rows = answer(&lab, "## What was held last week, and who decided?")?;
        Ok(find(&rows, &mark).filter(|row| row["outcome"] == "approved"))
    })?;
    ensure!(outcome["workload"] == "operator", "{outcome}");
    ensure!(outcome["approver"] != "", "{outcome}");

    let denials = answer(&lab, "## What did each rule deny?")?;
    let counted = denials.iter().find(|row| row["rule"] == rule);
    ensure!(
        counted.is_some_and(|row| row["denials"].as_u64() > Some(0)),
        "{rule}: {denials:?}"
    );

    for heading in COOKBOOK.lines().filter(|line| line.starts_with("## ")) {
        answer(&lab, heading).with_context(|| heading.to_owned())?;
    }
    Ok(())
}

#[test]
fn large_statements_digests_and_stages_are_stored_and_verify() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("l{}", std::process::id());
    let text = format!("select '{mark}' as mark, length('{}')", "x".repeat(150_000));
    let said = lab.psql("analyst", &format!("{text};\n"))?;
    ensure!(said.code == 0 && said.has("150000"), "{said:?}");
    let whole = format!(
        "select session_id from weir.large_statement where position(text, '{mark}') > 0 \
         and bytes = {} and length(text) = bytes and lower(hex(SHA256(text))) = sha256",
        text.len()
    );
    let session = until("the whole statement", SHIPPED_WITHIN, || {
        let ids = lab.store(&whole)?;
        Ok(ids.lines().next().map(str::to_owned))
    })?;
    let request = format!(
        "select seq from weir.fact where session_id = toUInt128('{session}') and kind = 'request' and decode_us > 0 \
         and position(statement, '{mark}') > 0 and position(statement, ' bytes, sha256 ') > 0 \
         and length(statement) < 5000"
    );
    let seq = until("the request that names it", SHIPPED_WITHIN, || {
        let seqs = lab.store(&request)?;
        Ok(seqs.lines().next().map(str::to_owned))
    })?;
    for (kind, condition) in [
        (
            "reply",
            format!("reply_to = {seq} and reply_digest != 0 and not truncated"),
        ),
        ("identity", "identify_us > 0".to_owned()),
        ("request", "credential_us > 0".to_owned()),
    ] {
        let sql = format!(
            "select count() from weir.fact where session_id = toUInt128('{session}') and kind = '{kind}' \
             and {condition}"
        );
        until(kind, SHIPPED_WITHIN, || {
            Ok((lab.store(&sql)?.trim() == "1").then_some(()))
        })?;
    }
    verified(&lab)
}

/// A session of the analyst that has ended and is stored: its id.
fn session(lab: &Lab, mark: &str) -> Result<String> {
    let said = lab.psql(
        "analyst",
        &format!("select id, email as {mark} from customers limit 2;"),
    )?;
    ensure!(said.code == 0, "{said:?}");
    let sql = format!(
        "select toString(toUUID(UUIDNumToString(toFixedString(reverse(reinterpretAsString(session_id)), 16)))) \
         from weir.fact where kind = 'request' and position(statement, '{mark}') > 0"
    );
    let whole = format!(
        "select count() from weir.fact where status = 'closed' and kind = 'flow' and session_id in \
         (select session_id from weir.fact where position(statement, '{mark}') > 0)"
    );
    until("the session is stored", SHIPPED_WITHIN, || {
        if lab.store(&whole)?.trim() == "0" {
            return Ok(None);
        }
        let id = lab.store(&sql)?.lines().next().map(str::to_owned);
        Ok(id)
    })
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).context("a folder")?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind at worst: the test's outcome does not depend on it.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn weir(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let said = lab.weir(arguments)?;
    ensure!(said.code == 0, "weir {arguments:?}: {said:?}");
    Ok(said.out)
}

#[test]
fn a_session_leaves_in_every_form_and_its_bundle_proves_itself() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("b{}", std::process::id());
    let id = session(&lab, &mark)?;
    let folder = Folder::new("bundle")?;
    let jsonl = weir(&lab, &["sessions", "export", &id])?;
    ensure!(
        jsonl.contains(&mark) && jsonl.lines().count() > 2,
        "{jsonl}"
    );
    let csv = weir(&lab, &["sessions", "export", &id, "--format", "csv"])?;
    ensure!(
        csv.starts_with("\"session_id\"") && csv.contains(&mark),
        "{csv}"
    );
    let ocsf = weir(&lab, &["sessions", "export", &id, "--format", "ocsf"])?;
    ensure!(
        ocsf.contains("\"class_uid\":6005") && ocsf.contains(&mark),
        "{ocsf}"
    );
    let file = folder.file("session.parquet");
    weir(
        &lab,
        &[
            "sessions", "export", &id, "--format", "parquet", "--out", &file,
        ],
    )?;
    let bytes = std::fs::read(&file).context("the Parquet file")?;
    ensure!(
        bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"),
        "no Parquet"
    );

    let (bundle, key) = (folder.file("session.weir"), folder.file("node.pub"));
    weir(&lab, &["sessions", "export", &id, "--bundle", &bundle])?;
    std::fs::write(&key, weir(&lab, &["audit", "key"])?).context("the key")?;
    let verify = |bundle: &str| -> Result<(i32, Value)> {
        // Without configuration, store or node.
        let binary = lab.name("LAB_WEIR_BINARY")?;
        let said = std::process::Command::new(binary)
            .args([
                "audit", "verify", "--json", "--bundle", bundle, "--key", &key,
            ])
            .env_clear()
            .current_dir("/")
            .output()
            .context("weir audit verify")?;
        let report = serde_json::from_slice(&said.stdout)
            .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
        Ok((said.status.code().unwrap_or(-1), report))
    };
    let (code, report) = verify(&bundle)?;
    ensure!(
        code == 0 && report["bundle"]["findings"] == serde_json::json!([]),
        "{report}"
    );
    let facts = report["bundle"]["facts"].as_u64().context("facts")?;
    ensure!(facts == u64::try_from(jsonl.lines().count())?, "{report}");
    // The segment is still written: its facts lie behind the last signed end.
    ensure!(
        report["verdict"] != "findings" && report["bundle"]["unproven"].is_u64(),
        "{report}"
    );

    let text = std::fs::read_to_string(&bundle).context("the bundle")?;
    let changed = folder.file("changed.weir");
    let edited = text.replacen(&mark, "other", 1);
    std::fs::write(&changed, edited).context("another bundle")?;
    let (code, report) = verify(&changed)?;
    let findings = report["bundle"]["findings"].to_string();
    ensure!(
        code == 1 && findings.contains("changed: statement"),
        "{report}"
    );
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(2);
    std::fs::write(&changed, lines.join("\n")).context("another bundle")?;
    let (code, report) = verify(&changed)?;
    let findings = report["bundle"]["findings"].to_string();
    ensure!(code == 1 && findings.contains("missing"), "{report}");
    Ok(())
}

fn copied(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context("a folder")?;
    for entry in std::fs::read_dir(from).context("the policies")? {
        let path = entry.context("a policy")?.path();
        if path.extension().is_some_and(|kind| kind == "cedar") {
            let name = path.file_name().context("its name")?;
            std::fs::copy(&path, to.join(name)).context("copying a policy")?;
        }
    }
    Ok(())
}

#[test]
fn a_backtest_finds_what_a_candidate_changes_and_nothing_else() -> Result<()> {
    let lab = Lab::current()?;
    let mark = format!("t{}", std::process::id());
    let started = lab.store("select toUnixTimestamp(now())")?;
    let mut script = String::new();
    for id in 1..=25 {
        script.push_str(&format!(
            "select id as {mark}, item from orders where id = {id};\n"
        ));
        script.push_str(&format!(
            "select id as {mark}, name from customers where id = {id};\n"
        ));
    }
    let said = lab.psql("analyst", &script)?;
    ensure!(said.code == 0, "{said:?}");
    let count = |what: &str| -> Result<u64> {
        let sql = format!(
            "select count() from weir.fact where kind = 'request' and decision = 'allow' and \
             workload = 'analyst' and position(statement, '{mark}') > 0 and {what}"
        );
        Ok(lab.store(&sql)?.trim().parse()?)
    };
    until("the statements are stored", SHIPPED_WITHIN, || {
        Ok((count("1 = 1")? == 50).then_some(()))
    })?;
    let folder = Folder::new("backtest")?;
    let now = folder.0.join("now");
    copied(Path::new(&lab.name("LAB_POLICIES")?), &now)?;
    let seconds: i64 = started.trim().parse().context("a time")?;
    let minutes = (SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?
        .as_secs()
        .saturating_sub(u64::try_from(seconds)?))
        / 60
        + 1;
    let since = format!("{minutes}m");
    let backtest = |directory: &Path| -> Result<Value> {
        let directory = directory.display().to_string();
        let arguments = [
            "policy",
            "backtest",
            "--since",
            &since,
            "--workload",
            "analyst",
            "--check",
            "200",
            "--candidate",
            &directory,
        ];
        lab.weir_json(&arguments)
    };
    let same = backtest(&now)?;
    ensure!(same["changed"] == 0 && same["drifted"] == 0, "{same}");
    ensure!(
        same["checked"].as_u64() >= Some(50) && same["mismatched"] == 0,
        "{same}"
    );
    let candidate = folder.0.join("candidate");
    copied(&now, &candidate)?;
    std::fs::write(
        candidate.join("99-candidate.cedar"),
        "@id(\"no-orders\")\n@reason(\"A test.\")\n@advice(\"Nothing.\")\nforbid (principal, action == \
         Postgres::Action::\"select\", resource == Postgres::Table::\"demo/shop/public/orders\");\n",
    )
    .context("the candidate")?;
    let changed = backtest(&candidate)?;
    let ours: Vec<&Value> = changed["changes"]
        .as_array()
        .context("changes")?
        .iter()
        .filter(|change| change["statement"].to_string().contains(&mark))
        .collect();
    ensure!(ours.len() == 1, "{changed}");
    let change = ours[0];
    ensure!(
        change["to"] == "deny" && change["to_rule"] == "no-orders",
        "{change}"
    );
    ensure!(
        change["requests"] == 25 && change["workload"] == "analyst",
        "{change}"
    );
    ensure!(
        change["statement"].to_string().contains("orders"),
        "{change}"
    );
    ensure!(changed["mismatched"] == 0, "{changed}");
    Ok(())
}
