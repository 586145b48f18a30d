//! Statements that a seed makes from the rules of `tests/leak/grammar.txt`: for ways through the
//! understanding of a query that nobody has thought of.

mod grammar;
mod maker;
mod query;

use anyhow::{Context, Result};

use self::grammar::Grammar;
use self::maker::Maker;
use crate::leak::Case;

/// Which statements `cargo xtask leak` asks for.
#[derive(Debug)]
pub struct Asked {
    pub seed: u64,
    /// Number of the first one.
    pub from: usize,
    pub count: usize,
    /// Where the report goes.
    pub report: Option<String>,
}

impl Asked {
    /// From the environment; what is not said there is that of tier `leak`.
    ///
    /// # Errors
    /// When a number is none.
    pub fn read() -> Result<Self> {
        let number = |name: &str, otherwise: u64| match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(otherwise),
        };
        Ok(Self {
            seed: number("WEIR_LEAK_SEED", 1)?,
            from: number("WEIR_LEAK_FROM", 0)? as usize,
            count: number("WEIR_LEAK_MADE", 400)? as usize,
            report: std::env::var("WEIR_LEAK_MADE_REPORT").ok(),
        })
    }

    /// # Errors
    /// When the rules cannot be read, or one of them names what there is no rule for.
    pub fn cases(&self) -> Result<Vec<Case>> {
        cases(&Grammar::read()?, self.seed, self.from, self.count)
    }
}

/// Cases number `from` and on; each is made from `seed` and its own number only.
fn cases(grammar: &Grammar, seed: u64, from: usize, count: usize) -> Result<Vec<Case>> {
    (from..from + count)
        .map(|number| {
            let text = Maker::new(grammar, seed, number as u64).statement()?;
            Ok(Case {
                name: format!("made:{seed}/{number}"),
                statements: text.split(" ;; ").map(str::to_owned).collect(),
            })
        })
        .collect()
}
