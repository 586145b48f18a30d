//! What the person at the terminal sees: a spinner on a terminal, plain lines elsewhere.
#![expect(clippy::print_stderr, reason = "the one place that prints")]

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// One step that takes time.
pub(crate) struct Step {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

/// Starts a step; end it with [`Step::done`].
pub(crate) fn step(name: impl Into<String>) -> Step {
    let name = name.into();
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner:.cyan} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(name.clone());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    });
    Step {
        name,
        started: Instant::now(),
        bar,
    }
}

impl Step {
    /// Says what the step is doing at the moment (terminals only).
    pub(crate) fn at(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            let short: String = detail.chars().take(100).collect();
            bar.set_message(format!("{}: {short}", self.name));
        }
    }

    /// As [`Step::at`]; without a terminal as a line of its own, for what takes minutes.
    pub(crate) fn reached(&self, detail: &str) {
        match &self.bar {
            Some(_) => self.at(detail),
            None => eprintln!("  .. {}: {detail}", self.name),
        }
    }

    /// Ends the step and says how long it took.
    pub(crate) fn done(self, detail: impl Display) {
        let detail = detail.to_string();
        let gap = if detail.is_empty() { "" } else { ": " };
        let line = format!(
            "  ok {}{gap}{detail} ({})",
            self.name,
            seconds(self.started.elapsed())
        );
        match &self.bar {
            Some(bar) => {
                bar.finish_and_clear();
                eprintln!("{line}");
            }
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A heading, on standard error with the progress.
pub(crate) fn heading(text: impl Display) {
    eprintln!("\n{text}");
}

/// A remark, on standard error with the progress.
pub(crate) fn note(text: impl Display) {
    eprintln!("  {text}");
}

/// The result of a command, on standard output.
pub(crate) fn result(text: impl Display) {
    let mut out = std::io::stdout().lock();
    // A reader that went away (`| head`) is no failure of ours.
    let _closed = writeln!(out, "{text}");
}

/// Why the command failed, with every cause.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}
