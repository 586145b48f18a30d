//! The rules, as read.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A column of something that stands in FROM.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// A word of the rules.
    pub(crate) kind: String,
    /// Masked, or made of what is.
    pub(crate) masked: bool,
}

/// What stands in FROM.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) text: String,
    pub(crate) columns: Vec<Column>,
}

/// Kinds of expressions, tables and statements.
#[derive(Debug, Default)]
pub(super) struct Grammar {
    rules: BTreeMap<String, Vec<String>>,
    /// Tables, each as often as it is wanted.
    pub(crate) tables: Vec<Source>,
    /// What has to be written behind a table, functions with places to fill.
    pub(crate) calls: Vec<Source>,
}

impl Grammar {
    /// # Errors
    /// When the file cannot be read, or a line is no rule.
    pub(super) fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leak/grammar.txt");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut grammar = Self::default();
        for line in text.lines() {
            if !line.is_empty() && !line.starts_with('#') {
                grammar
                    .line(line)
                    .with_context(|| format!("the rule {line:?}"))?;
            }
        }
        Ok(grammar)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (what, text) = line.split_once(": ").context("no ': '")?;
        if let Some(table) = what.strip_prefix("table ") {
            let (name, often) = table.split_once(' ').context("no weight")?;
            let source = Source {
                text: name.to_owned(),
                columns: columns(text)?,
            };
            let often: usize = often.parse().context("a weight")?;
            self.tables.extend(std::iter::repeat_n(source, often));
        } else if what == "from" {
            let (text, list) = text.rsplit_once("): ").map_or_else(
                || text.split_once(": ").context("no columns"),
                |(head, list)| Ok((text.get(..=head.len()).unwrap_or(text), list)),
            )?;
            self.calls.push(Source {
                text: text.to_owned(),
                columns: columns(list)?,
            });
        } else {
            let rules = self.rules.entry(what.to_owned()).or_default();
            rules.push(text.to_owned());
        }
        Ok(())
    }

    /// Rules for `what`, none when there are none.
    pub(crate) fn of(&self, what: &str) -> &[String] {
        self.rules.get(what).map_or(&[], Vec::as_slice)
    }
}

/// `name kind, name kind!`: the mark is for what is not masked.
fn columns(list: &str) -> Result<Vec<Column>> {
    list.split(", ")
        .map(|item| {
            let Some((name, kind)) = item.split_once(' ') else {
                bail!("no kind in {item:?}");
            };
            Ok(Column {
                name: name.to_owned(),
                kind: kind.trim_end_matches('!').to_owned(),
                masked: !kind.ends_with('!'),
            })
        })
        .collect()
}
