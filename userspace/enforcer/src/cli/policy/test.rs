//! `weir policy test`: examples against policies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use weir_model::time::Now;

use crate::examples::{self, Example, Question, Scene};
use crate::output;

#[derive(Args)]
#[command(
    after_help = "An example says who (as), what (sql, request or command) and what is expected \
    (allow, deny, hold or refuse), and as far as it matters rules, masks and reviewers. Tables come \
    from a schema's text, such as pg_dump --schema-only writes. Every answer is compared with \
    Cedar's own.\n\nExamples:\n  weir policy test /etc/weir/policies\n  \
    weir policy test 10-read.test.yaml --json\n  \
    weir policy test tests/ --policies policies/"
)]
pub(crate) struct TestArgs {
    /// Files with examples, or directories that hold *.test.yaml
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Directory of the policies; that of the examples without
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    examples: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    file: String,
    name: String,
    ok: bool,
    /// What is not as expected.
    differences: Vec<String>,
}

/// Exit 0 when every example is answered as it expects, 1 otherwise.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    let mut files = Vec::new();
    for path in &args.paths {
        let found = examples::files(path)?;
        ensure!(!found.is_empty(), "{} has no *.test.yaml", path.display());
        files.extend(found);
    }
    let mut report = Report {
        passed: 0,
        failed: 0,
        examples: Vec::new(),
    };
    for file in files {
        one(&file, args.policies.as_deref(), &mut report)?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    Ok(if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(path: &Path, policies: Option<&Path>, report: &mut Report) -> Result<()> {
    let file = examples::read(path)?;
    let base = path.parent().unwrap_or(Path::new("."));
    let scene = Scene::of(&file, policies.unwrap_or(base), base)?;
    for example in &file.examples {
        let differences = match differences(&scene, example) {
            Ok(differences) => differences,
            Err(error) => vec![format!("{error:#}")],
        };
        if differences.is_empty() {
            report.passed += 1;
        } else {
            report.failed += 1;
        }
        report.examples.push(Line {
            file: path.display().to_string(),
            name: example.name.clone(),
            ok: differences.is_empty(),
            differences,
        });
    }
    Ok(())
}

fn differences(scene: &Scene, example: &Example) -> Result<Vec<String>> {
    let target = scene.target(example.target.as_deref())?;
    let who = scene.principal(&example.who)?;
    let question = question(example)?;
    let asked = question.ask(target)?;
    let now = super::moment(example.at.as_deref())?;
    let answer = examples::answer(scene, (who, target), &asked, now)?;
    Ok(example.differences(&answer.verdict))
}

fn question(example: &Example) -> Result<Question> {
    let body = example.body.clone().unwrap_or_default();
    match (&example.sql, &example.request, &example.command) {
        (Some(sql), None, None) => Ok(Question::Sql(sql.clone())),
        (None, Some(line), None) => Ok(Question::Request {
            line: line.clone(),
            body,
        }),
        (None, None, Some(command)) => Ok(Question::Command(command.clone())),
        _ => anyhow::bail!("an example has one of sql, request and command"),
    }
}

fn print(report: &Report) {
    let mut last = "";
    for line in &report.examples {
        if line.file != last {
            output::line(&line.file);
            last = &line.file;
        }
        let word = if line.ok { "ok    " } else { "FAILED" };
        output::line(&format!("  {word} {}", line.name));
        for difference in &line.differences {
            output::line(&format!("         {difference}"));
        }
    }
    output::line(&format!(
        "{} passed, {} failed",
        report.passed, report.failed
    ));
}

/// What is not said is asked at a fixed time, so that examples answer alike on every day.
pub(super) const fn usual() -> Now {
    Now {
        mono_us: 0,
        // Wednesday, 1 July 2026, 12:00 UTC.
        wall_us: 1_782_907_200_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every starter policy has examples, and policy answers as they say.
    #[test]
    fn the_shipped_examples_are_answered_as_they_expect() {
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policies");
        for directory in [deploy.to_owned(), format!("{deploy}/sets")] {
            let mut report = Report {
                passed: 0,
                failed: 0,
                examples: Vec::new(),
            };
            for file in examples::files(Path::new(&directory)).unwrap() {
                one(&file, None, &mut report).unwrap();
            }
            let failed: Vec<String> = report
                .examples
                .iter()
                .filter(|line| !line.ok)
                .map(|line| format!("{}: {}: {:?}", line.file, line.name, line.differences))
                .collect();
            assert!(failed.is_empty(), "{}", failed.join("\n"));
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|ends| ends == "cedar") {
                    assert!(
                        path.with_extension("test.yaml").exists(),
                        "{}",
                        path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn what_differs_is_said() {
        let text = "version: 1\nsettings: { targets: { host: { protocol: ssh } } }\n\
            principals: { a: {} }\nexamples:\n  - { name: x, as: a, command: ls, expect: allow }\n";
        let file: examples::ExampleFile = serde_saphyr::from_str(text).unwrap();
        let directory = std::env::temp_dir().join(format!("weir-example-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let policy = "@id(\"no\") @reason(\"r\") @advice(\"a\") forbid (principal, action == \
            Ssh::Action::\"exec\", resource);";
        std::fs::write(directory.join("a.cedar"), policy).unwrap();
        let scene = Scene::of(&file, &directory, &directory).unwrap();
        let found = differences(&scene, file.examples.first().unwrap()).unwrap();
        assert_eq!(found, ["expected allow, got deny: denied by no: r"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
