//! What a guest's run came to, by test and by recipe.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::guest::{Line, Recipe};
use super::kernels::Kernel;
use super::programs::{Test, label};
use crate::{run, say};

/// Lines that are kept of a test, to be shown when it fails.
const KEPT_MAX: usize = 400;

pub(super) struct Report {
    line: String,
    log: PathBuf,
    release: Option<String>,
    doctor: Vec<String>,
    /// Code and guest's seconds, by label.
    pub(super) ends: BTreeMap<String, (i32, f64)>,
    recipes: Vec<Recipe>,
    failed: Vec<(String, Vec<String>)>,
    now: Vec<String>,
    began_s: f64,
    done: bool,
    pub(super) in_time: bool,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn new(kernel: &Kernel, log: PathBuf) -> Self {
        Self {
            line: kernel.line.clone(),
            log,
            release: None,
            doctor: Vec::new(),
            ends: BTreeMap::new(),
            recipes: Vec::new(),
            failed: Vec::new(),
            now: Vec::new(),
            began_s: 0.0,
            done: false,
            in_time: true,
            took: Duration::ZERO,
        }
    }

    pub(super) fn take(&mut self, line: Line, text: &str) {
        match line {
            Line::Up { release } => self.release = Some(release),
            Line::Doctor(row) => self.doctor.push(row),
            Line::Start(_) => self.now.clear(),
            Line::End { label, code, at_s } => {
                if code != 0 {
                    self.failed
                        .push((label.clone(), std::mem::take(&mut self.now)));
                }
                self.ends.insert(label, (code, at_s - self.began_s));
                self.began_s = at_s;
            }
            Line::Done => self.done = true,
            Line::Recipe(recipe) => {
                self.now.push(text.to_owned());
                self.recipes.push(recipe);
            }
            Line::Other => {
                if self.now.len() >= KEPT_MAX {
                    self.now.remove(0);
                }
                self.now.push(text.to_owned());
            }
        }
    }

    /// All ran, all passed, and the guest came to its end.
    pub(super) fn good(&self, tests: usize) -> bool {
        self.done
            && self.in_time
            && self.ends.len() == tests
            && self.ends.values().all(|(code, _)| *code == 0)
    }

    /// One line for each recipe and each test.
    pub(super) fn print(&self, tests: &[Test]) {
        let name = self.release.as_deref().unwrap_or("did not boot");
        say::result(format!("\nLinux {} ({name})", self.line));
        for row in &self.doctor {
            say::result(format!("  {row}"));
        }
        for (name, phases) in by_name(&self.recipes) {
            say::result(format!("  recipe {name:28} {}", verdict(&phases)));
        }
        for test in tests {
            let label = label(test);
            let verdict = match self.ends.get(&label) {
                Some((0, seconds)) => format!("ok      {seconds:>7.1} s"),
                Some((137, _)) => "FAILED  over its limit".to_owned(),
                Some((code, _)) => format!("FAILED  exit {code}"),
                None => "NEVER RAN".to_owned(),
            };
            say::result(format!("  test   {label:86} {verdict}"));
        }
        for (label, lines) in &self.failed {
            say::result(format!("\n  {label} on {}:", self.line));
            say::result(run::tail(&lines.join("\n")));
        }
        if !self.done {
            let why = if self.in_time {
                "ended early"
            } else {
                "was over its limit"
            };
            say::result(format!("  the guest {why}; its last lines:"));
            say::result(run::tail(&self.now.join("\n")));
        }
        say::note(format!("log {}", self.log.display()));
    }

    fn row(&self, tests: usize) -> String {
        let passed = self.ends.values().filter(|(code, _)| *code == 0).count();
        let recipes = by_name(&self.recipes);
        let absent: Vec<&str> = recipes
            .iter()
            .filter(|(_, phases)| is_absent(phases))
            .map(|(name, _)| *name)
            .collect();
        let held = recipes
            .iter()
            .filter(|(_, phases)| !is_absent(phases) && phases.iter().all(|recipe| recipe.good))
            .count();
        format!(
            "{:8} {:8} {passed:>3}/{tests} tests, {held:>3}/{} recipes held, absent: {}, {}",
            self.line,
            if self.good(tests) { "passed" } else { "FAILED" },
            recipes.len() - absent.len(),
            if absent.is_empty() {
                "none".to_owned()
            } else {
                absent.join(" ")
            },
            say::seconds(self.took)
        )
    }
}

/// In the order of the table.
fn by_name(recipes: &[Recipe]) -> Vec<(&str, Vec<&Recipe>)> {
    let mut found: Vec<(&str, Vec<&Recipe>)> = Vec::new();
    for recipe in recipes {
        match found.iter_mut().find(|(name, _)| *name == recipe.name) {
            Some((_, phases)) => phases.push(recipe),
            None => found.push((&recipe.name, vec![recipe])),
        }
    }
    found
}

fn is_absent(phases: &[&Recipe]) -> bool {
    phases
        .iter()
        .any(|recipe| recipe.text.starts_with("absent"))
}

fn verdict(phases: &[&Recipe]) -> String {
    if let Some(recipe) = phases
        .iter()
        .find(|recipe| recipe.text.starts_with("absent"))
    {
        let why = recipe.text.trim_start_matches("absent: ");
        return format!("ABSENT: not there without Weir either ({why})");
    }
    let words: Vec<String> = phases
        .iter()
        .map(|recipe| match recipe.good {
            true => format!("{} ok", recipe.phase),
            false => format!("{} WRONG ({})", recipe.phase, recipe.text),
        })
        .collect();
    words.join(", ")
}

/// Non-zero unless every kernel was good.
pub(super) fn summary(reports: &[Report], tests: usize) -> ExitCode {
    say::result("");
    for report in reports {
        say::result(report.row(tests));
    }
    if reports.iter().all(|report| report.good(tests)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
