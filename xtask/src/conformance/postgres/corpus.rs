//! The differential corpus, in every mode on a fresh copy of one database.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::report::Report;
use super::{Run, Way, folder, kept};
use crate::{run, say};

const MODES: [&str; 7] = [
    "simple",
    "extended",
    "binary",
    "named",
    "limited",
    "pipelined",
    "batched",
];
/// For the short form.
const SHORT_MODES: [&str; 2] = ["simple", "extended"];
/// Of the statements made from the catalog, in the short form.
const SHORT_EVERY: &str = "20";
pub(super) const DATABASE: &str = "conformance";

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for mode in MODES {
        let wanted = run.modes.is_empty() || run.modes.iter().any(|wanted| wanted == mode);
        if !wanted || (run.short && !SHORT_MODES.contains(&mode)) {
            continue;
        }
        let step = say::step(format!("corpus, {mode}"));
        let report = one(run, mode)?;
        step.done(format!("{} of {} the same", report.same, report.run));
        reports.push(report);
    }
    if run.modes.is_empty() && !run.short {
        reports.push(no_longer(&reports)?);
    }
    Ok(reports)
}

/// Differences that `differences.txt` names and that no mode shows.
fn no_longer(reports: &[Report]) -> Result<Report> {
    let file = folder().join("differences.txt");
    let file = fs::read_to_string(&file).context("reading the differences")?;
    let named: Vec<&str> = file
        .lines()
        .filter_map(|line| Some(line.strip_prefix("corpus ")?.split_once(": ")?.0))
        .collect();
    let seen = |name: &str| {
        reports
            .iter()
            .any(|report| report.meant.iter().any(|meant| meant == name))
    };
    let gone: Vec<String> = named
        .iter()
        .filter(|name| !seen(name))
        .map(|name| format!("different: differences.txt names '{name}', which is the same"))
        .collect();
    Ok(Report {
        suite: "corpus, differences.txt".to_owned(),
        run: named.len(),
        same: named.len() - gone.len(),
        meant: Vec::new(),
        different: gone,
    })
}

fn one(run: &Run<'_>, mode: &str) -> Result<Report> {
    let script = folder().join("differential.py");
    let script = script.to_str().context("a path of text")?;
    let every = if run.short { SHORT_EVERY } else { "1" };
    for way in Way::BOTH {
        run.server.fresh(DATABASE)?;
        let command = [
            "python3", "-B", script, "run", "--mode", mode, "--every", every,
        ];
        let mut client = run.client(way, DATABASE, &command)?;
        to_file(&mut client, &kept(&format!("{mode}.{}", way.name())))?;
    }
    let output = Command::new("python3")
        .args(["-B", script, "compare", "--mode", mode])
        .args(Way::BOTH.map(|way| kept(&format!("{mode}.{}", way.name()))))
        .output()
        .context("comparing")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    fs::write(kept(&format!("{mode}.differences")), &text).context("keeping the differences")?;
    if text.is_empty() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Report::read(format!("corpus, {mode}"), &text)
}

/// Runs with standard output in a file.
pub(super) fn to_file(command: &mut Command, path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().context("a folder")?).context("making a folder")?;
    let file = fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
    let output = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::piped())
        .output()
        .context("starting a client")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?} ended with {}\n{}",
            output.status,
            run::tail(&said)
        );
    }
    Ok(())
}
