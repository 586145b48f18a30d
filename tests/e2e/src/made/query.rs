//! Queries: what stands in FROM, what is returned, how rows are chosen, grouped and ordered.

use anyhow::{Context, Result};

use super::grammar::{Column, Source};
use super::maker::{Level, Maker, Relation, Wanted};

/// A query and what it returns.
pub(super) struct Made {
    pub(super) text: String,
    columns: Vec<Column>,
}

impl Maker<'_> {
    /// A query in brackets that gives one value.
    pub(super) fn scalar(&mut self, kind: &str, wanted: Wanted) -> Result<String> {
        let inner = wanted.deeper();
        if self.chance(50) {
            self.levels.push(Level::default());
            let (from, _) = self.source(inner)?;
            let rule = self.one(self.grammar.of(&format!("agg {kind}")));
            let text = match rule {
                Some(rule) => self.filled(&rule, inner),
                None => Ok("null".to_owned()),
            };
            self.levels.pop();
            return Ok(format!("(select {} from {from})", text?));
        }
        let made = self.query(Some(&[kind.to_owned()]), inner)?;
        Ok(format!("(select one.c1 from ({}) one limit 1)", made.text))
    }

    /// Of these kinds, or of any.
    pub(super) fn query(&mut self, kinds: Option<&[String]>, wanted: Wanted) -> Result<Made> {
        let kinds: Vec<String> = match kinds {
            Some(kinds) => kinds.to_vec(),
            None => (0..self.number(4))
                .map(|_| self.kind().to_owned())
                .collect(),
        };
        if wanted.depth > 0 && self.chance(12) {
            return self.combined(&kinds, wanted.deeper());
        }
        if wanted.depth > 0 && self.chance(12) {
            return self.behind(&kinds, wanted);
        }
        self.select(&kinds, wanted)
    }

    /// UNION and the like.
    fn combined(&mut self, kinds: &[String], wanted: Wanted) -> Result<Made> {
        let with = [
            "union all",
            "union all",
            "union all",
            "union",
            "intersect all",
            "except all",
        ];
        let with = self.one(&with).unwrap_or("union all");
        let side = if with == "union all" {
            wanted
        } else {
            wanted.plain()
        };
        let (a, b) = (self.select(kinds, side)?, self.select(kinds, side)?);
        let columns = a.columns.iter().zip(&b.columns).map(|(a, b)| Column {
            masked: a.masked || b.masked,
            ..a.clone()
        });
        Ok(Made {
            columns: columns.collect(),
            text: format!("({}) {with} ({})", a.text, b.text),
        })
    }

    /// Behind a name that WITH gives.
    fn behind(&mut self, kinds: &[String], wanted: Wanted) -> Result<Made> {
        let name = self.alias();
        let inner = self.query(None, wanted.deeper())?;
        let kept = self
            .one(&["", "materialized ", "not materialized "])
            .unwrap_or("");
        let source = Source {
            text: name.clone(),
            columns: inner.columns,
        };
        self.levels.push(Level::default());
        let made = self.select_from(Some(&source), kinds, wanted.deeper());
        self.levels.pop();
        let made = made?;
        Ok(Made {
            text: format!("with {name} as {kept}({}) {}", inner.text, made.text),
            ..made
        })
    }

    fn select(&mut self, kinds: &[String], wanted: Wanted) -> Result<Made> {
        self.levels.push(Level::default());
        let made = self.select_from(None, kinds, wanted);
        self.levels.pop();
        made
    }

    fn select_from(
        &mut self,
        first: Option<&Source>,
        kinds: &[String],
        wanted: Wanted,
    ) -> Result<Made> {
        let from = self.from(first, wanted)?;
        let condition = if self.chance(55) {
            let wanted = if self.chance(93) {
                wanted.plain()
            } else {
                wanted
            };
            format!(" where {}", self.expression("bool", wanted.deeper())?)
        } else {
            String::new()
        };
        let grouping = if self.chance(20) {
            self.group(wanted)?
        } else {
            String::new()
        };
        let grouped = !grouping.is_empty();
        let mut items = Vec::new();
        let mut columns = Vec::new();
        let before = std::mem::replace(&mut self.masked, false);
        let mut any = before;
        for (at, kind) in kinds.iter().enumerate() {
            self.masked = false;
            let text = self.item(kind, grouped, wanted)?;
            any |= self.masked;
            let name = format!("c{}", at + 1);
            items.push(format!("{text} as {name}"));
            columns.push(Column {
                name,
                kind: kind.clone(),
                masked: self.masked,
            });
        }
        self.masked = any;
        let having = if grouped && self.chance(20) {
            format!(
                " having {}",
                self.expression("bool", wanted.plain().deeper())?
            )
        } else {
            String::new()
        };
        let all_plain = columns.iter().all(|column| !column.masked);
        let distinct = if all_plain && self.chance(8) {
            "distinct "
        } else {
            ""
        };
        let order = if distinct.is_empty() && self.chance(50) {
            let kind = self.one(&["int", "int", "text"]).unwrap_or("int");
            let text = self.expression(kind, wanted.plain().deeper().deeper())?;
            // A literal would be the number of an item.
            if text.contains('.') {
                format!(" order by {text}")
            } else {
                String::new()
            }
        } else {
            String::new()
        };
        let limit = if self.chance(15) {
            format!(" limit {}", self.number(9))
        } else {
            String::new()
        };
        Ok(Made {
            text: format!(
                "select {distinct}{} from {from}{condition}{grouping}{having}{order}{limit}",
                items.join(", ")
            ),
            columns,
        })
    }

    fn item(&mut self, kind: &str, grouped: bool, wanted: Wanted) -> Result<String> {
        let windows = self.grammar.of(&format!("window {kind}"));
        if !grouped && !windows.is_empty() && self.chance(10) {
            let rule = self.one(windows).context("a rule")?;
            return self.filled(&rule, wanted.deeper());
        }
        self.expression(kind, wanted)
    }

    /// GROUP BY; from here on only its keys can stand outside of aggregates.
    fn group(&mut self, wanted: Wanted) -> Result<String> {
        let mut keys = Vec::new();
        for _ in 0..self.number(2) {
            let kind = self.one(&["text", "int", "int"]).unwrap_or("int");
            let wanted = if self.chance(92) {
                wanted.plain()
            } else {
                wanted
            };
            let before = std::mem::replace(&mut self.masked, false);
            let text = self.expression(kind, wanted.deeper().deeper())?;
            let masked = std::mem::replace(&mut self.masked, before);
            // A literal would be the number of an item.
            if text.contains('.') {
                let column = Column {
                    name: String::new(),
                    kind: kind.to_owned(),
                    masked,
                };
                keys.push((text, column));
            }
        }
        let list: Vec<&str> = keys.iter().map(|(text, _)| text.as_str()).collect();
        let text = match (list.is_empty(), self.number(8)) {
            (true, _) => " group by ()".to_owned(),
            (_, 1) => format!(" group by rollup ({})", list.join(", ")),
            (_, 2) => format!(" group by grouping sets (({}), ())", list.join(", ")),
            _ => format!(" group by {}", list.join(", ")),
        };
        if let Some(level) = self.levels.last_mut() {
            level.keys = Some(keys);
        }
        Ok(text)
    }

    fn from(&mut self, first: Option<&Source>, wanted: Wanted) -> Result<String> {
        let mut text = match first {
            Some(source) => self.named(source),
            None => self.source(wanted)?.0,
        };
        for _ in 0..2 {
            if !self.chance(30) {
                break;
            }
            text = self.joined(text, wanted)?;
        }
        Ok(text)
    }

    fn joined(&mut self, left: String, wanted: Wanted) -> Result<String> {
        match self.number(6) {
            1 => Ok(format!("{left}, {}", self.lateral(wanted)?)),
            2 => Ok(format!("{left} cross join {}", self.lateral(wanted)?)),
            3 => Ok(format!(
                "{left} left join {} on true",
                self.lateral(wanted)?
            )),
            _ => {
                let how = ["join", "join", "left join", "right join", "full join"];
                let how = self.one(&how).unwrap_or("join");
                let last = |level: &Level| level.relations.last().map(|r| r.alias.clone());
                let mine = self.levels.last().and_then(last).unwrap_or_default();
                self.hide(true);
                let made = self.source(wanted.deeper());
                self.hide(false);
                let (right, alias) = made?;
                let on = match (self.id(&mine), self.id(&alias)) {
                    (Some(a), Some(b)) if a == b && self.chance(40) => {
                        return Ok(format!("{left} {how} {right} using ({a})"));
                    }
                    (Some(a), Some(b)) => format!("{mine}.{a} = {alias}.{b}"),
                    _ if how == "full join" => "true".to_owned(),
                    _ => self.expression("bool", wanted.plain().deeper().deeper())?,
                };
                Ok(format!("{left} {how} {right} on {on}"))
            }
        }
    }

    fn hide(&mut self, hidden: bool) {
        if let Some(level) = self.levels.last_mut() {
            level.hidden = hidden;
        }
    }

    /// A column by which rows can be joined.
    fn id(&self, alias: &str) -> Option<String> {
        let level = self.levels.last()?;
        let relation = level
            .relations
            .iter()
            .find(|relation| relation.alias == alias)?;
        let fits = |column: &&Column| column.kind == "int" && !column.masked;
        Some(relation.columns.iter().find(fits)?.name.clone())
    }

    /// Something that may name what stands left of it.
    fn lateral(&mut self, wanted: Wanted) -> Result<String> {
        if self.chance(50) || wanted.depth == 0 {
            let rule = self.one(&self.grammar.calls).context("a rule 'from'")?;
            let alias = self.alias();
            let before = std::mem::replace(&mut self.masked, false);
            let text = self.filled(&rule.text.replace("{alias}", &alias), wanted.deeper())?;
            let masked = std::mem::replace(&mut self.masked, before);
            self.masked |= masked;
            let columns = rule.columns.into_iter().map(|column| Column {
                masked: column.masked && masked,
                ..column
            });
            self.relation(alias, columns.collect());
            let query = text.starts_with("(select") || text.starts_with("(values");
            return Ok(format!("{}{text}", if query { "lateral " } else { "" }));
        }
        let made = self.query(None, wanted.deeper())?;
        let alias = self.alias();
        self.relation(alias.clone(), made.columns);
        Ok(format!("lateral ({}) {alias}", made.text))
    }

    fn relation(&mut self, alias: String, columns: Vec<Column>) {
        if let Some(level) = self.levels.last_mut() {
            level.relations.push(Relation { alias, columns });
        }
    }

    fn named(&mut self, source: &Source) -> String {
        let alias = self.alias();
        self.relation(alias.clone(), source.columns.clone());
        format!("{} {alias}", source.text)
    }

    /// A table, or a subquery that sees nothing of this query; and its alias.
    fn source(&mut self, wanted: Wanted) -> Result<(String, String)> {
        if wanted.depth == 0 || self.chance(70) {
            let source = self.one(&self.grammar.tables).context("a rule 'table'")?;
            let text = self.named(&source);
            let alias = text.rsplit(' ').next().unwrap_or_default().to_owned();
            return Ok((text, alias));
        }
        self.hide(true);
        let made = self.query(None, wanted.deeper());
        self.hide(false);
        let (made, alias) = (made?, self.alias());
        if self.chance(25) {
            let names: Vec<String> = (1..=made.columns.len())
                .map(|at| format!("r{at}"))
                .collect();
            let columns = made
                .columns
                .into_iter()
                .zip(&names)
                .map(|(column, name)| Column {
                    name: name.clone(),
                    ..column
                });
            self.relation(alias.clone(), columns.collect());
            let text = format!("({}) {alias}({})", made.text, names.join(", "));
            return Ok((text, alias));
        }
        self.relation(alias.clone(), made.columns);
        Ok((format!("({}) {alias}", made.text), alias))
    }
}
