//! Statements that show masked values, by every way that is known: through Weir no byte of the answer
//! depends on those values, but for what a mask keeps on purpose.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, finish};
use weir_e2e::leak::{Answer, Answers, Case, Report, answers, corpus, forms, found};

/// Columns whose masks are digests or tokens.
const TOKENS: &str = "select id, pin, key, blob from people order by id";
/// Values that are looked for, too, in other spellings.
const CANARIES: &str = "select ssn, email, card, nick, phone, label, profile ->> 'code', notes ->> 'code', \
    tags[1], (home).street, ends || '!', balance, key, met from people union all \
    select visitor, visitor, null, null, null, null, null, null, null, null, null, null, null, null from visits";

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

/// One case in one mode: what is wrong with it, if anything, and whether it was refused.
fn judge(
    report: &mut Report,
    label: &str,
    sides: [&Side; 2],
    key: &(String, String),
    tokens: &BTreeSet<Vec<u8>>,
) -> Option<bool> {
    let pair = |of: fn(&Side) -> &Answers| -> Option<[&Answer; 2]> {
        Some([of(sides[0]).get(key)?, of(sides[1]).get(key)?])
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
        report.changed.push(format!("{label}: the session ended"));
        return Some(true);
    }
    if !weir[0].same(weir[1], tokens) {
        report
            .leaked
            .push(format!("{label}: the answer tells the worlds apart"));
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

#[test]
fn no_byte_depends_on_a_masked_value() -> Result<()> {
    let lab = Lab::current()?;
    let schema = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../leak/schema.sql");
    lab.server(&std::fs::read_to_string(schema).context("the schema")?)?;
    let mut cases = corpus()?;
    let mut report = Report {
        statements: cases.len(),
        ..Report::default()
    };
    cases.push(Case {
        name: "tokens".to_owned(),
        statements: vec![TOKENS.to_owned()],
    });
    let a = Side::of(&lab, &cases, "a")?;
    let b = Side::of(&lab, &cases, "b")?;
    let tokens: BTreeSet<_> = a.tokens().union(&b.tokens()).cloned().collect();
    ensure!(tokens.len() > 40, "{} tokens", tokens.len());
    cases.pop();
    for case in &cases {
        let silent = report.silent.len();
        let mut refused = false;
        for mode in [
            "simple",
            "simple-binary",
            "extended-text",
            "extended-binary",
        ] {
            let key = (case.name.clone(), mode.to_owned());
            if mode == "simple-binary" && !a.direct.contains_key(&key) {
                continue;
            }
            let label = format!("{} ({mode}): {}", case.name, case.statements.join("; "));
            refused |= judge(&mut report, &label, [&a, &b], &key, &tokens).unwrap_or(true);
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
