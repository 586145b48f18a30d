//! The one place that prints for people and scripts.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line"
)]

use std::borrow::Cow;

use crate::config::{Config, Problem};

/// Characters of a cell of a table.
const CELL_WIDTH: usize = 200;

/// Text for a person, in lines. Much of it was written by agents: see [`visible`].
pub(crate) fn line(text: &str) {
    println!("{}", visible(text));
}

/// Text for another program, as it is: lines of JSON, files, certificates.
pub(crate) fn data(text: &str) {
    println!("{text}");
}

/// A note that is not part of the output.
pub(crate) fn note(text: &str) {
    eprintln!("{}", visible(text));
}

/// An error with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("weir: {}", visible(&format!("{error:#}")));
}

/// Without what drives a terminal or changes the order of what is read: a reviewer has to see a
/// statement as the server will. Such characters are shown as `\u{1b}`; ends of lines and tabs stay.
fn visible(text: &str) -> Cow<'_, str> {
    let hides = |c: char| (c.is_control() && !matches!(c, '\n' | '\t')) || reorders(c);
    if !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Marks without a form of their own: of direction (Unicode Standard Annex 9), of no width, of lines.
const fn reorders(c: char) -> bool {
    matches!(
        c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

/// As [`line`], all in one line, of at most `width` characters and `…` behind them.
pub(crate) fn flat(text: &str, width: usize) -> String {
    let text = visible(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Any value as pretty JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Rows under a header, columns as wide as needed.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let flat_row = |row: &Vec<String>| row.iter().map(|cell| flat(cell, CELL_WIDTH)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(flat_row).collect();
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
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
    for row in &rows {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_wrote_does_not_drive_the_terminal_of_a_reviewer() {
        let hostile = "select 1 -- \u{1b}[2K\r\u{9b}1A\u{202e}txet\u{200b}\n\tfrom t";
        let shown = visible(hostile);
        assert_eq!(
            shown,
            "select 1 -- \\u{1b}[2K\\u{d}\\u{9b}1A\\u{202e}txet\\u{200b}\n\tfrom t"
        );
        assert!(matches!(visible("select 'größer'\n"), Cow::Borrowed(_)));
        assert_eq!(flat("a\nb\u{7}c", 80), "a b\\u{7}c");
        assert_eq!(flat("äöü", 2), "äö…");
    }
}
