//! The one place that prints for people and scripts.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line"
)]

use crate::config::{Config, Problem};

/// One line for a person or a script.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// A note that is not part of the output.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// An error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("weir: {error:#}");
}

/// Any value as pretty JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Rows under a header, columns as wide as needed.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            let pad = (width + 2).saturating_sub(cell.chars().count());
            text.extend(std::iter::repeat_n(' ', pad));
        }
        text.trim_end().to_owned()
    };
    println!("{}", render(&mut header.iter().copied()));
    for row in rows {
        println!("{}", render(&mut row.iter().map(String::as_str)));
    }
}

/// Loads the configuration; all problems become one error, a line each.
pub(crate) fn load(path: &std::path::Path) -> anyhow::Result<Config> {
    crate::config::load(path).map_err(|problems| {
        anyhow::anyhow!("{}\n{}", headline(path, problems.len()), lines(&problems))
    })
}

fn headline(path: &std::path::Path, count: usize) -> String {
    let noun = if count == 1 { "problem" } else { "problems" };
    format!("{}: {count} {noun}", path.display())
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
