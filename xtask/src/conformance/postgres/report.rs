//! What a suite came to, and the table of all.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::say;

/// Differences of one suite that are printed; all stand in its log.
const SHOWN: usize = 40;

/// One line of the table.
pub(super) struct Report {
    pub(super) suite: String,
    pub(super) run: usize,
    pub(super) same: usize,
    /// Names of differences that are meant.
    pub(super) meant: Vec<String>,
    /// Differences that are not.
    pub(super) different: Vec<String>,
}

impl Report {
    /// From what a script printed: a line `different: …` for each difference, then counts as JSON.
    pub(super) fn read(suite: String, output: &str) -> Result<Self> {
        let last = output.lines().last().context("the script said nothing")?;
        let counts: Value = serde_json::from_str(last)
            .with_context(|| format!("{suite}: the last line is no JSON: {last}"))?;
        let count = |name: &str| {
            let count = counts.get(name).and_then(Value::as_u64).unwrap_or(0);
            usize::try_from(count).unwrap_or(usize::MAX)
        };
        let meant = counts.get("meant").and_then(Value::as_array);
        let mut different: Vec<String> = Vec::new();
        for line in output.lines() {
            if line.starts_with("different: ") {
                different.push(line.to_owned());
            } else if let (Some(last), true) = (different.last_mut(), line.starts_with("   ")) {
                last.push('\n');
                last.push_str(line);
            }
        }
        anyhow::ensure!(
            different.len() == count("different"),
            "{suite}: {} differences are named and {} counted",
            different.len(),
            count("different")
        );
        Ok(Self {
            suite,
            run: count("run"),
            same: count("same"),
            meant: meant
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            different,
        })
    }
}

/// Prints every difference and the table.
pub(super) fn print(reports: &[Report]) -> ExitCode {
    for report in reports {
        for difference in report.different.iter().take(SHOWN) {
            say::result(format!("{}: {difference}", report.suite));
        }
        if report.different.len() > SHOWN {
            say::result(format!(
                "{}: {} more differences",
                report.suite,
                report.different.len() - SHOWN
            ));
        }
    }
    say::result(format!(
        "{:28} {:>7} {:>15} {:>8} {:>9}",
        "suite", "run", "same as direct", "as meant", "different"
    ));
    for report in reports {
        let meant = report.run - report.same.min(report.run);
        let meant = meant.saturating_sub(report.different.len());
        say::result(format!(
            "{:28} {:>7} {:>15} {:>8} {:>9}",
            report.suite,
            report.run,
            report.same,
            meant,
            report.different.len()
        ));
    }
    let named: std::collections::BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| report.meant.iter().map(String::as_str))
        .collect();
    if !named.is_empty() {
        let named: Vec<&str> = named.into_iter().collect();
        say::result(format!("as meant (differences.txt): {}", named.join(", ")));
    }
    if reports.iter().all(|report| report.different.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_its_lines_and_is_counted() {
        let said = "different: a\n   direct x\n   weir y\ndifferent: b\n\
                    {\"run\": 5, \"same\": 2, \"meant\": [\"m\"], \"different\": 2}\n";
        let report = Report::read("s".to_owned(), said).unwrap();
        assert_eq!((report.run, report.same), (5, 2));
        assert_eq!(report.meant, ["m"]);
        assert_eq!(
            report.different,
            [
                "different: a\n   direct x\n   weir y".to_owned(),
                "different: b".to_owned()
            ]
        );
        assert!(Report::read("s".to_owned(), "{\"different\": 1}").is_err());
        assert!(Report::read("s".to_owned(), "Traceback").is_err());
    }
}
