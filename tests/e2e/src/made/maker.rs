//! Expressions and whole statements.

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::grammar::{Column, Grammar};

/// Kinds that can be compared, joined and returned.
pub(super) const KINDS: [&str; 13] = [
    "text", "text", "text", "int", "int", "number", "float", "bool", "date", "stamp", "json",
    "texts", "uuid",
];
/// How deep expressions and subqueries go.
const DEPTH: u8 = 3;

/// Something in FROM whose columns can be named.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) alias: String,
    pub(super) columns: Vec<Column>,
}

/// A query that is being made.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    pub(super) relations: Vec<Relation>,
    /// Outside of aggregates only these can stand: text and kind.
    pub(super) keys: Option<Vec<(String, Column)>>,
    /// What is made now cannot see it.
    pub(super) hidden: bool,
}

/// Makes one statement.
pub(super) struct Maker<'g> {
    pub(super) grammar: &'g Grammar,
    rng: StdRng,
    pub(super) levels: Vec<Level>,
    /// Whether what was made since it was last unset has anything masked.
    pub(super) masked: bool,
    aliases: usize,
    fresh: String,
}

/// What an expression may be made of.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) depth: u8,
    /// Nothing that is masked.
    pub(super) plain: bool,
}

impl Wanted {
    pub(super) const ANY: Self = Self {
        depth: DEPTH,
        plain: false,
    };

    pub(super) fn deeper(self) -> Self {
        Self {
            depth: self.depth.saturating_sub(1),
            ..self
        }
    }

    pub(super) fn plain(self) -> Self {
        Self {
            plain: true,
            ..self
        }
    }
}

impl<'g> Maker<'g> {
    pub(super) fn new(grammar: &'g Grammar, seed: u64, number: u64) -> Self {
        Self {
            grammar,
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
            levels: Vec::new(),
            masked: false,
            aliases: 0,
            fresh: format!("made_{number}"),
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub(super) fn number(&mut self, most: usize) -> usize {
        self.rng.random_range(1..=most.max(1))
    }

    pub(super) fn one<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        let at = self.rng.random_range(0..list.len().max(1));
        list.get(at).cloned()
    }

    pub(super) fn kind(&mut self) -> &'static str {
        self.one(&KINDS).unwrap_or("text")
    }

    pub(super) fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases)
    }

    /// What the statement is; several are separated by ` ;; `.
    pub(super) fn statement(mut self) -> Result<String> {
        let rule = self.one(self.grammar.of("statement"));
        self.filled(&rule.context("no rule 'statement'")?, Wanted::ANY)
    }

    /// An expression of a kind.
    pub(super) fn expression(&mut self, kind: &str, wanted: Wanted) -> Result<String> {
        let grouped = self.levels.last().is_some_and(|level| level.keys.is_some());
        let aggregates = self.grammar.of(&format!("agg {kind}"));
        if grouped && !aggregates.is_empty() && self.chance(60) {
            let rule = self.one(aggregates).context("a rule")?;
            let keys = self.levels.last_mut().and_then(|level| level.keys.take());
            let text = self.filled(&rule, wanted.deeper());
            if let Some(level) = self.levels.last_mut() {
                level.keys = keys;
            }
            return text;
        }
        let rules = self.grammar.of(kind);
        if wanted.depth == 0 || rules.is_empty() || self.chance(40) {
            return self.leaf(kind, wanted);
        }
        let rule = self.one(rules).context("a rule")?;
        self.filled(&rule, wanted.deeper())
    }

    /// A column, or a literal where none can be had.
    fn leaf(&mut self, kind: &str, wanted: Wanted) -> Result<String> {
        let seen = self.columns();
        let mut fitting: Vec<_> = seen
            .into_iter()
            .filter(|(_, column)| column.kind == kind && !(wanted.plain && column.masked))
            .collect();
        // What is masked is what it is about.
        if !wanted.plain && self.chance(60) && fitting.iter().any(|(_, column)| column.masked) {
            fitting.retain(|(_, column)| column.masked);
        }
        if let Some((text, column)) = self.one(&fitting).filter(|_| !fitting.is_empty())
            && self.chance(90)
        {
            self.masked |= column.masked;
            return Ok(text);
        }
        match self.one(self.grammar.of(&format!("literal {kind}"))) {
            Some(rule) => self.filled(&rule, wanted),
            None => Ok("null".to_owned()),
        }
    }

    /// Every column that can be named here, as it is named.
    pub(super) fn columns(&self) -> Vec<(String, Column)> {
        let mut found = Vec::new();
        for level in self.levels.iter().filter(|level| !level.hidden) {
            match &level.keys {
                Some(keys) => found.extend(keys.iter().cloned()),
                None => found.extend(level.relations.iter().flat_map(|relation| {
                    let of = |column: &Column| {
                        (
                            format!("{}.{}", relation.alias, column.name),
                            column.clone(),
                        )
                    };
                    relation.columns.iter().map(of)
                })),
            }
        }
        found
    }

    /// A whole row of something.
    fn row(&mut self, wanted: Wanted) -> String {
        let rows: Vec<Relation> = self
            .levels
            .iter()
            .filter(|level| !level.hidden && level.keys.is_none())
            .flat_map(|level| level.relations.iter().cloned())
            .filter(|relation| {
                !(wanted.plain && relation.columns.iter().any(|column| column.masked))
            })
            .collect();
        match self.one(&rows) {
            Some(relation) => {
                self.masked |= relation.columns.iter().any(|column| column.masked);
                relation.alias
            }
            None => "row(1, 'r')".to_owned(),
        }
    }

    /// A rule with its places filled.
    pub(super) fn filled(&mut self, rule: &str, wanted: Wanted) -> Result<String> {
        let depth = self.levels.len();
        let mut out = String::new();
        let mut rest = rule;
        // The list of columns is written before the FROM that says what they are of.
        let opened = self.open(rule);
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((place, after)) = behind.split_once('}') else {
                bail!("a place without an end in {rule:?}");
            };
            out.push_str(before);
            if is_place(place) {
                let text = self.place(place, &opened, wanted);
                out.push_str(&text.with_context(|| rule.to_owned())?);
                rest = after;
            } else {
                // A brace of the text's own.
                out.push('{');
                rest = behind;
            }
        }
        self.levels.truncate(depth);
        Ok(out + rest)
    }

    /// What `{in TABLE ALIAS}` of a rule brings.
    fn open(&mut self, rule: &str) -> Option<String> {
        let (_, behind) = rule.split_once("{in ")?;
        let (inside, _) = behind.split_once('}')?;
        let (table, alias) = inside.split_once(' ')?;
        let tables = &self.grammar.tables;
        let source = tables.iter().find(|source| source.text == table)?;
        self.levels.push(Level {
            relations: vec![Relation {
                alias: alias.to_owned(),
                columns: source.columns.clone(),
            }],
            ..Level::default()
        });
        Some(inside.to_owned())
    }

    fn place(&mut self, place: &str, opened: &Option<String>, wanted: Wanted) -> Result<String> {
        let plain = place.ends_with('!');
        let wanted = if plain { wanted.plain() } else { wanted };
        let place = place.trim_end_matches('!');
        if let Some(kind) = place.strip_prefix("agg ") {
            let rule = self.one(self.grammar.of(&format!("agg {kind}")));
            return self.filled(&rule.context("no such aggregate")?, wanted);
        }
        if let Some(kind) = place.strip_prefix("scalar ") {
            return self.scalar(kind, wanted);
        }
        if let Some(kind) = place.strip_prefix("set ") {
            let kind = if kind == "any" { self.kind() } else { kind };
            let made = self.query(Some(&[kind.to_owned()]), wanted.deeper())?;
            return Ok(made.text);
        }
        match place {
            "n" => Ok(self.number(6).to_string()),
            "fresh" => Ok(self.fresh.clone()),
            "any" => {
                let kind = self.any();
                self.expression(&kind, wanted)
            }
            "row" => Ok(self.row(wanted)),
            "window" => self.window(wanted),
            "query" => Ok(self.query(None, wanted)?.text),
            _ if place.starts_with("in ") => opened.clone().context("no such table"),
            kind => self.expression(kind, wanted),
        }
    }

    /// Mostly a kind that can be made; sometimes one that only columns have.
    fn any(&mut self) -> String {
        let seen = self.columns();
        match self.one(&seen) {
            Some((_, column)) if self.chance(50) => column.kind,
            _ => self.kind().to_owned(),
        }
    }

    fn window(&mut self, wanted: Wanted) -> Result<String> {
        let wanted = wanted.plain().deeper().deeper();
        let mut out = "(".to_owned();
        if self.chance(40) {
            let kind = self.one(&["text", "int"]).unwrap_or("int");
            out = format!("(partition by {} ", self.expression(kind, wanted)?);
        }
        out += &format!("order by {} + 0", self.expression("int", wanted)?);
        if self.chance(30) {
            out += " rows between 1 preceding and 1 following";
        }
        Ok(out + ")")
    }
}

fn is_place(place: &str) -> bool {
    let word = place.trim_end_matches('!');
    !word.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase()) && !word.contains(',')
}
