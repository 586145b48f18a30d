//! What the server logged of the agent's statements, against what Weir recorded of them.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::report::Report;
use super::{Run, corpus, folder, kept};
use crate::lab::names;
use crate::say;

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    let step = say::step("records");
    let names = names::names(run.lab);
    let name = |key: &str| {
        names
            .get(key)
            .with_context(|| format!("the lab has no {key}"))
    };
    let output = Command::new("python3")
        .arg("-B")
        .arg(folder().join("records.py"))
        .arg(&run.lab.database.log)
        .args([corpus::DATABASE, name("LAB_OPERATOR_V4")?])
        .args([name("LAB_CLICKHOUSE_URL")?, name("LAB_READER_TOKEN_FILE")?])
        .output()
        .context("starting the comparison")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    std::fs::write(kept("records.differences"), &text).context("keeping the differences")?;
    if text.is_empty() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let report = Report::read("records = server's log".to_owned(), &text)?;
    step.done(format!("{} of {} the same", report.same, report.run));
    Ok(vec![report])
}
