//! Statements that show masked values, by every way that is known: through Weir no byte of the answer
//! depends on those values, but for what a mask keeps on purpose.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, finish};
use weir_e2e::leak::{Answer, Answers, Case, Report, answers, corpus, forms, found};
use weir_e2e::made::Asked;

/// Columns whose masks are digests or tokens.
const TOKENS: &str = "select id, pin, key, blob from people order by id";
/// Values that are looked for, too, in other spellings.
const CANARIES: &str = "select ssn, email, card, nick, phone, label, profile ->> 'code', notes ->> 'code', \
    tags[1], (home).street, ends || '!', balance, key, met from people union all \
    select visitor, visitor, null, null, null, null, null, null, null, null, null, null, null, null from visits";

const LOST: &str = "the session ended";
const MODES: [&str; 4] = [
    "simple",
    "simple-binary",
    "extended-text",
    "extended-binary",
];

/// What the client program prints for one side.
fn run(lab: &Lab, cases: &[Case], direct: bool) -> Result<Answers> {
    let python = Lab::python_binary()?;
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../python/leak_client.py");
    let script = script.canonicalize().context("the client program")?;
    let list: Vec<_> = cases
        .iter()
        .map(|case| serde_json::json!({ "name": case.name, "statements": case.statements }))
        .collect();
    let input = serde_json::json!({ "cases": list }).to_string();
    let command = [python.as_str(), "-B", script.to_str().context("a path")?];
    let said = if direct {
        let mut envs = vec!["env".to_owned()];
        envs.push(format!("PGHOST={}", lab.name("LAB_DB_SOCKET_DIR")?));
        envs.push(format!("PGUSER={}", lab.name("LAB_DB_USER")?));
        envs.push(format!("PGDATABASE={}", lab.name("LAB_DB_NAME")?));
        envs.push(format!("PGPORT={}", lab.name("LAB_DB_PORT")?));
        envs.extend(command.map(str::to_owned));
        finish(Lab::on_host(&envs, &input)?)?
    } else {
        lab.exec("analyst", &command, &input)?
    };
    ensure!(said.code == 0, "the client program: {}", said.err);
    answers(&said.out)
}

fn world(lab: &Lab, name: &str) -> Result<()> {
    lab.server(&format!("set datestyle = 'ISO'; call fill('{name}')"))?;
    Ok(())
}

fn needles(lab: &Lab) -> Result<Vec<Vec<u8>>> {
    let said = lab.server(CANARIES)?;
    let values: BTreeSet<&str> = said.lines().flat_map(|line| line.split('|')).collect();
    Ok(values
        .iter()
        .filter(|value| value.len() > 5)
        .flat_map(|value| forms(value))
        .collect())
}

struct Side {
    direct: Answers,
    weir: Answers,
    needles: Vec<Vec<u8>>,
}

impl Side {
    fn of(lab: &Lab, cases: &[Case], name: &str) -> Result<Self> {
        world(lab, name)?;
        Ok(Self {
            needles: needles(lab)?,
            direct: run(lab, cases, true)?,
            weir: run(lab, cases, false)?,
        })
    }

    fn tokens(&self) -> BTreeSet<Vec<u8>> {
        let of_tokens = self.weir.iter().filter(|((case, _), _)| case == "tokens");
        of_tokens.flat_map(|(_, answer)| answer.values()).collect()
    }
}

/// Both worlds, directly and through Weir.
struct Worlds {
    sides: [Side; 2],
    /// What a mask leaves different in them on purpose.
    tokens: BTreeSet<Vec<u8>>,
}

impl Worlds {
    fn of(lab: &Lab, cases: &[Case]) -> Result<Self> {
        let tokens = Case {
            name: "tokens".to_owned(),
            statements: vec![TOKENS.to_owned()],
        };
        let all = [cases, &[tokens]].concat();
        let sides = [Side::of(lab, &all, "a")?, Side::of(lab, &all, "b")?];
        let tokens: BTreeSet<_> = sides.iter().flat_map(Side::tokens).collect();
        ensure!(tokens.len() > 40, "{} tokens", tokens.len());
        Ok(Self { sides, tokens })
    }

    /// The keys of a case's answers, one for each mode that it was run in.
    fn keys(&self, case: &Case) -> Vec<(String, String)> {
        let keys = MODES.map(|mode| (case.name.clone(), mode.to_owned()));
        // Not everything can be a cursor.
        let was_run = |key: &(String, String)| {
            key.1 != "simple-binary" || self.sides[0].direct.contains_key(key)
        };
        keys.into_iter().filter(was_run).collect()
    }

    /// Whether the server's own answer is one that is not read to its end; nothing can be said of it.
    fn is_large(&self, case: &Case) -> bool {
        self.keys(case).iter().any(|key| {
            let mut direct = self.sides.iter().filter_map(|side| side.direct.get(key));
            direct.any(|answer| answer.large)
        })
    }
}

/// One case in one mode: what is wrong with it, if anything, and whether it was refused.
fn judge(
    report: &mut Report,
    label: &str,
    worlds: &Worlds,
    key: &(String, String),
) -> Option<bool> {
    let Worlds { sides, tokens } = worlds;
    let pair = |of: fn(&Side) -> &Answers| -> Option<[&Answer; 2]> {
        Some([of(&sides[0]).get(key)?, of(&sides[1]).get(key)?])
    };
    let (Some(direct), Some(weir)) = (pair(|side| &side.direct), pair(|side| &side.weir)) else {
        report.leaked.push(format!("{label}: was not run"));
        return None;
    };
    report.runs += 1;
    if direct[0].same(direct[1], &BTreeSet::new()) {
        report.silent.push(label.to_owned());
    }
    if weir.iter().any(|answer| answer.lost) {
        report.changed.push(format!("{label}: {LOST}"));
        return Some(true);
    }
    if !weir[0].same(weir[1], tokens) {
        report.leaked.push(format!(
            "{label}: tells the worlds apart: {}",
            weir[0].apart(weir[1])
        ));
    }
    for (answer, side) in weir.iter().zip(sides) {
        if let Some(needle) = found(&answer.raw, &side.needles) {
            let needle = String::from_utf8_lossy(needle);
            report.leaked.push(format!("{label}: shows {needle}"));
        }
    }
    let refused = weir[0].errors.len() > direct[0].errors.len()
        || (weir[0].errors != direct[0].errors
            && weir[0].errors.iter().any(|code| code == "42501"));
    if !refused && let Some(what) = weir[0].changed(direct[0], direct[1]) {
        report.changed.push(format!("{label}: {what}"));
    }
    Some(refused)
}

/// Makes the tables, unless an earlier test did.
fn lab() -> Result<Lab> {
    let lab = Lab::current()?;
    if lab
        .server("select to_regclass('people')")?
        .trim()
        .is_empty()
    {
        let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../leak/schema.sql");
        lab.server(&std::fs::read_to_string(schema).context("the schema")?)?;
    }
    Ok(lab)
}

/// What was refused of the statements that a seed made.
#[derive(Default)]
struct Refusals {
    /// Their answers differ directly.
    meant: Vec<String>,
    /// They do not, so that a finer understanding might have let them pass.
    needless: Vec<String>,
    /// Statements that the server fails.
    failing: Vec<String>,
}

#[test]
fn no_byte_of_what_a_seed_makes_depends_on_a_masked_value() -> Result<()> {
    let lab = lab()?;
    let asked = Asked::read()?;
    let mut cases = asked.cases()?;
    let worlds = Worlds::of(&lab, &cases)?;
    let made = cases.len();
    cases.retain(|case| !worlds.is_large(case));
    let mut report = Report {
        statements: cases.len(),
        ..Report::default()
    };
    let mut refusals = Refusals::default();
    for case in &cases {
        judge_made(&mut report, &mut refusals, &worlds, case);
    }
    let lost: Vec<_> = report
        .changed
        .iter()
        .filter(|line| line.ends_with(LOST))
        .collect();
    let text = format!(
        "seed {}: {} statements, {} runs; {} show a masked value directly, {} are errors there, {} more are too large\n\
         refused {} of those that show one, {} of the others\nsessions ended {}\n\
         leaked {}\n{}\n{}",
        asked.seed,
        report.statements,
        report.runs,
        report.shown_directly,
        refusals.failing.len(),
        made - cases.len(),
        refusals.meant.len(),
        refusals.needless.len(),
        lost.len(),
        report.leaked.len(),
        listed("  LEAKED", &report.leaked),
        [
            listed("refused", &refusals.meant),
            listed("refused, shows nothing", &refusals.needless),
            listed("error", &refusals.failing),
            listed("changed", &report.changed),
        ]
        .concat(),
    );
    if let Some(path) = asked.report {
        std::fs::write(&path, &text).with_context(|| path.clone())?;
    }
    let head = text.split("\n\n").next().unwrap_or_default();
    ensure!(report.leaked.is_empty() && lost.is_empty(), "{head}");
    // A test that shows nothing, or gets nothing through, would not find anything.
    let returned = report.statements - refusals.meant.len() - refusals.needless.len();
    let enough = report.shown_directly * 3 > report.statements && returned * 2 > report.statements;
    ensure!(enough || report.statements < 100, "{head}");
    Ok(())
}

fn listed(title: &str, lines: &[String]) -> String {
    lines
        .iter()
        .map(|line| format!("{title}: {line}\n"))
        .collect()
}

fn judge_made(report: &mut Report, refusals: &mut Refusals, worlds: &Worlds, case: &Case) {
    let text = case.statements.join(" ;; ");
    let (mut refused, mut shown, mut why) = (false, false, String::new());
    for key in worlds.keys(case) {
        let label = format!("{} ({}): {text}", case.name, key.1);
        refused |= judge(report, &label, worlds, &key).unwrap_or(true);
        let answers = worlds.sides.each_ref().map(|side| side.direct.get(&key));
        if let [Some(a), Some(b)] = answers {
            shown |= !a.same(b, &BTreeSet::new());
            if key.1 == "simple" && !a.errors.is_empty() {
                let line = format!("{} {:?}: {text}", case.name, a.errors);
                refusals.failing.push(line);
            }
        }
        if let Some(answer) = worlds.sides[0].weir.get(&key).filter(|_| why.is_empty()) {
            why = answer.refusal();
        }
    }
    report.shown_directly += usize::from(shown);
    let line = format!("{} {why}: {text}", case.name);
    match (refused, shown) {
        (true, true) => refusals.meant.push(line),
        (true, false) => refusals.needless.push(line),
        (false, _) => {}
    }
}

#[test]
fn no_byte_depends_on_a_masked_value() -> Result<()> {
    let lab = lab()?;
    let cases = corpus()?;
    let worlds = Worlds::of(&lab, &cases)?;
    let mut report = Report {
        statements: cases.len(),
        ..Report::default()
    };
    for case in &cases {
        let silent = report.silent.len();
        let mut refused = false;
        for key in worlds.keys(case) {
            let label = format!("{} ({}): {}", case.name, key.1, case.statements.join("; "));
            refused |= judge(&mut report, &label, &worlds, &key).unwrap_or(true);
        }
        report.shown_directly += usize::from(report.silent.len() == silent);
        if refused {
            report
                .refused
                .insert(format!("{}: {}", case.name, case.statements.join("; ")));
        } else {
            report.returned += 1;
        }
    }
    let text = report.text();
    if let Some(path) = Report::path() {
        std::fs::write(&path, &text).with_context(|| path.clone())?;
    }
    report.judge().with_context(|| text)
}
