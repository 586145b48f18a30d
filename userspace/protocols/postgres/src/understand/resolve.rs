//! What a column reference means.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{A_Indirection, ColumnRef, FuncCall};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level};
use super::flow::{ColumnId, Flow, Output, Rows};

/// Columns that every table has and that hold no data of it.
const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"];

impl Analyzer<'_> {
    /// The output that `column` stands for; a whole row is an expression over all its columns.
    pub(super) fn column(&mut self, column: &ColumnRef) -> Result<Output, SqlRefusal> {
        let fields: Vec<Node<'_>> = column.fields().iter().collect();
        let (last, before) = fields
            .split_last()
            .ok_or(SqlRefusal::Unsupported("an empty column reference"))?;
        let qualifier: Vec<&str> = before.iter().filter_map(|node| node.as_str()).collect();
        if qualifier.len() != before.len() {
            return Err(SqlRefusal::Unsupported("a column reference of that form"));
        }
        match last.as_str() {
            Some(name) => self.named(&qualifier, name),
            // `t.*` as one value: in count(t.*), row(t.*), (t).*.
            None => {
                let rows = self.star(&qualifier)?;
                let mut flow = Flow::default();
                for column in &rows.columns {
                    flow.join(&column.flow);
                }
                flow.join(&rows.rest);
                Ok(Output::expression(Arc::from("?column?"), flow))
            }
        }
    }

    fn named(&mut self, qualifier: &[&str], name: &str) -> Result<Output, SqlRefusal> {
        let found = match qualifier {
            [] => self.unqualified(name)?,
            [table] => self.qualified_column(None, table, name)?,
            [schema, table] => self.qualified_column(Some(schema), table, name)?,
            [database, schema, table] if *database == &**self.names.database => {
                self.qualified_column(Some(schema), table, name)?
            }
            _ => None,
        };
        // Within the body of a function it may be an argument. Columns come first, but which ones there
        // are is not always known, and a parameter is written with the function's name.
        let argument = self
            .arguments
            .as_ref()
            .and_then(|known| known.named(qualifier, name));
        let argument = argument.map(|flow| Output::expression(Arc::from(name), flow));
        let found = match (found, argument) {
            (Some(column), Some(argument)) if argument.flow.is_empty() => Some(column),
            (Some(column), Some(argument)) => {
                let mut flow = column.flow.derived();
                flow.join(&argument.flow);
                Some(Output::row(Arc::from(name), flow))
            }
            (found, argument) => found.or(argument),
        };
        found.ok_or_else(|| SqlRefusal::UnknownColumn(name.to_owned()))
    }

    /// Something of an inner level that has columns which are not known may have one of that name, or
    /// not: then it is that of an outer level. The value may be either.
    fn unqualified(&mut self, name: &str) -> Result<Option<Output>, SqlRefusal> {
        let mut guessed: Option<Flow> = None;
        for at in (0..self.levels.len()).rev() {
            let Some(level) = self.levels.get(at).filter(|level| !level.hidden) else {
                continue;
            };
            let steps = level.items.iter().map(|item| item.columns.len() + 1).sum();
            let found = column_of(level, name);
            let visible = level.items.iter().filter(|item| item.columns_visible);
            let open: Vec<&Item> = visible.filter(|item| item.open || item.loose).collect();
            if found.is_none() && !open.is_empty() {
                let guess = guessed.get_or_insert_default();
                for item in open {
                    guess.join(&item.rest);
                }
            }
            let found = found.or_else(|| row_or_system_column(level, name));
            self.spend(steps)?;
            if let Some(found) = found {
                return Ok(Some(match guessed {
                    None => found,
                    Some(mut flow) => {
                        flow.join(&found.flow);
                        Output::row(Arc::from(name), flow)
                    }
                }));
            }
        }
        Ok(guessed.map(|flow| Output::row(Arc::from(name), flow)))
    }

    /// `(t).column`, where `t` is something in FROM and no column: the same as `t.column`.
    pub(super) fn field_of_row(
        &mut self,
        part: &A_Indirection,
    ) -> Result<Option<Output>, SqlRefusal> {
        let field = part.indirection().first().and_then(|step| step.as_str());
        let (Some(table), Some(field)) = (self.whole_row(part)?, field) else {
            return Ok(None);
        };
        let known = self
            .item(None, table)
            .is_some_and(|item| item.columns.iter().any(|column| &*column.name == field));
        if !known {
            return Ok(None);
        }
        self.qualified_column(None, table, field)
    }

    /// `(t).*`, where `t` is something in FROM and no column: the server expands it as `t.*`.
    pub(super) fn star_of_row(&mut self, part: &A_Indirection) -> Result<Option<Rows>, SqlRefusal> {
        if !matches!(part.indirection().first(), Some(Node::A_Star(_))) {
            return Ok(None);
        }
        match self.whole_row(part)? {
            Some(table) => self.star(&[table]).map(Some),
            None => Ok(None),
        }
    }

    /// The name in front of the one step, if it stands for a row in FROM.
    fn whole_row<'n>(&mut self, part: &'n A_Indirection) -> Result<Option<&'n str>, SqlRefusal> {
        if part.indirection().len() != 1 {
            return Ok(None);
        }
        self.row_named(part.arg())
    }

    /// `column(t)`, where `t` is something in FROM: the same as `t.column`, unless there is such a
    /// function (PostgreSQL, 4.2.6 and 38.5.3).
    pub(super) fn field_by_call(&mut self, call: &FuncCall) -> Result<Option<Output>, SqlRefusal> {
        let plain = call.over().is_none() && !call.agg_star && !call.agg_distinct;
        let names = (call.funcname().first(), call.funcname().len());
        let (true, (Some(field), 1), 1) = (plain, names, call.args().len()) else {
            return Ok(None);
        };
        let (Some(field), Some(argument)) = (field.as_str(), call.args().first()) else {
            return Ok(None);
        };
        let shadowed =
            !self.catalog().functions(field).is_empty() || self.catalog().has_type_named(field);
        let Some(table) = self.row_named(argument)?.filter(|_| !shadowed) else {
            return Ok(None);
        };
        let item = self.item(None, table);
        let known =
            item.is_some_and(|item| item.columns.iter().any(|column| &*column.name == field));
        if !known {
            return Ok(None);
        }
        self.qualified_column(None, table, field)
    }

    /// The name, if it stands for a row in FROM.
    fn row_named<'n>(&mut self, node: Node<'n>) -> Result<Option<&'n str>, SqlRefusal> {
        let Node::ColumnRef(row) = node else {
            return Ok(None);
        };
        let (Some(table), 1) = (
            row.fields().first().and_then(Node::as_str),
            row.fields().len(),
        ) else {
            return Ok(None);
        };
        let found = self.unqualified(table)?;
        let of_row = found.is_some_and(|found| found.described.is_none() && found.plain.is_none());
        Ok((of_row && self.item(None, table).is_some()).then_some(table))
    }

    fn item(&self, schema: Option<&str>, table: &str) -> Option<&Item> {
        self.levels
            .iter()
            .rev()
            .filter(|level| !level.hidden)
            .find_map(|level| {
                level.items.iter().find(|item| {
                    item.name_visible
                        && &*item.name == table
                        && schema.is_none_or(|schema| item.schema.as_deref() == Some(schema))
                })
            })
    }

    fn qualified_column(
        &mut self,
        schema: Option<&str>,
        table: &str,
        name: &str,
    ) -> Result<Option<Output>, SqlRefusal> {
        let Some(item) = self.item(schema, table) else {
            return Ok(None);
        };
        let steps = item.columns.len();
        let found = merge(item.columns.iter().filter(|column| &*column.name == name));
        let (open, rest, whole) = (item.open || item.loose, item.rest.clone(), item.whole());
        let system = item.relation != 0 && SYSTEM_COLUMNS.contains(&name);
        self.spend(steps)?;
        if found.is_some() {
            return Ok(found);
        }
        if open {
            return Ok(Some(Output::row(Arc::from(name), rest)));
        }
        if system {
            return Ok(Some(Output::row(Arc::from(name), Flow::default())));
        }
        // `t.f` is also how a function of a row can be written.
        if self.catalog().functions(name).is_empty() {
            return Ok(None);
        }
        let effects = self.call(&[name])?;
        if effects {
            self.touch_flow("readColumn", &whole)?;
            self.divert(&whole);
        }
        Ok(Some(Output::expression(Arc::from(name), whole)))
    }

    /// The columns of `*` or `qualifier.*`.
    pub(super) fn star(&mut self, qualifier: &[&str]) -> Result<Rows, SqlRefusal> {
        let mut rows = Rows::default();
        let items: Vec<&Item> = match qualifier {
            [] => {
                let level = self.levels.last();
                level.map_or_else(Vec::new, |level| {
                    level
                        .items
                        .iter()
                        .filter(|item| item.columns_visible)
                        .collect()
                })
            }
            [table] => self.item(None, table).into_iter().collect(),
            [schema, table] => self.item(Some(schema), table).into_iter().collect(),
            _ => Vec::new(),
        };
        if items.is_empty() && !qualifier.is_empty() {
            return Err(SqlRefusal::UnknownRelation(qualifier.join(".")));
        }
        for item in items {
            rows.columns.extend(item.columns.iter().map(Arc::clone));
            rows.open |= item.open;
            rows.rest.join(&item.rest);
        }
        self.spend(rows.columns.len())?;
        Ok(rows)
    }

    /// The columns of a relation of the catalog, with their lineage.
    pub(super) fn relation_columns(&mut self, oid: u32) -> Result<Vec<Arc<Output>>, SqlRefusal> {
        let Some(relation) = self.catalog().relation(oid) else {
            return Ok(Vec::new());
        };
        self.spend(relation.columns.len())?;
        let relatives = self.relatives(relation)?;
        let mut outputs = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let id = ColumnId {
                relation: oid,
                attnum: column.attnum,
            };
            let mut flow = Flow::one(id);
            for from in &column.computed_from {
                let from = Flow::one(ColumnId {
                    relation: oid,
                    attnum: *from,
                });
                flow.join(&from.derived());
            }
            for relative in &relatives {
                if let Some(same) = relative.column(&column.name) {
                    flow.join(&Flow::one(ColumnId {
                        relation: relative.oid,
                        attnum: same.attnum,
                    }));
                }
            }
            outputs.push(Arc::new(Output {
                name: Arc::clone(&column.name),
                flow,
                plain: Some(id),
                described: Some(id),
            }));
        }
        Ok(outputs)
    }
}

/// Several columns of one name are an error of the server; until it says so, any of them.
fn merge<'o>(mut found: impl Iterator<Item = &'o Arc<Output>>) -> Option<Output> {
    let mut first = Output::clone(found.next()?);
    for other in found {
        first.flow.join(&other.flow);
        first.plain = None;
        first.described = None;
    }
    Some(first)
}

/// The column of that name in FROM; of a JOIN USING both are one.
fn column_of(level: &Level, name: &str) -> Option<Output> {
    let visible = level.items.iter().filter(|item| item.columns_visible);
    merge(visible.flat_map(|item| item.columns.iter().filter(|column| &*column.name == name)))
}

/// PostgreSQL tries columns first, then a whole row of that name.
fn row_or_system_column(level: &Level, name: &str) -> Option<Output> {
    let mut visible = level.items.iter().filter(|item| item.columns_visible);
    if visible.any(|item| item.relation != 0) && SYSTEM_COLUMNS.contains(&name) {
        return Some(Output::row(Arc::from(name), Flow::default()));
    }
    let mut named = level.items.iter().filter(|item| item.name_visible);
    let item = named.find(|item| &*item.name == name)?;
    Some(Output::row(Arc::from(name), item.whole()))
}
