//! Bodies of SQL functions, opened: what they read is read, and what comes out is what flows there.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::FuncCall;

use super::SqlRefusal;
use super::analyzer::{Analyzer, effective_path};
use super::flow::{Flow, NO_COLUMN, Output, Rows};
use super::tree;
use crate::catalog::SqlFunction;

/// Bodies within bodies; a deeper one is taken by policy's word, as any other code.
const DEPTH_MAX: usize = 6;

/// What a function was called with.
#[derive(Debug)]
pub(super) struct Arguments {
    function: Arc<str>,
    names: Vec<Arc<str>>,
    flows: Vec<Flow>,
}

impl Arguments {
    /// `$number`, from 1.
    pub(super) fn numbered(&self, number: i32) -> Flow {
        let at = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        at.and_then(|at| self.flows.get(at))
            .cloned()
            .unwrap_or_default()
    }

    /// `name` or `function.name`.
    pub(super) fn named(&self, qualifier: &[&str], name: &str) -> Option<Flow> {
        let fits = qualifier.is_empty() || qualifier == [&*self.function];
        let at = self
            .names
            .iter()
            .position(|known| fits && **known == *name)?;
        Some(self.flows.get(at).cloned().unwrap_or_default())
    }
}

/// A function that was opened.
pub(super) struct Opened {
    /// Of what its arguments are made.
    pub(super) arguments: Flow,
    pub(super) rows: Rows,
}

impl<'a> Analyzer<'a> {
    /// Opens the function that is called, if it is SQL that only reads. The call itself, and what the
    /// body does, are accesses; `None` when it is not such a function, and nothing is recorded then.
    pub(super) fn open(
        &mut self,
        call: &FuncCall,
        parts: &[&str],
    ) -> Result<Option<Opened>, SqlRefusal> {
        let Some(function) = self.openable(call, parts) else {
            return Ok(None);
        };
        let mut flows = Vec::new();
        let mut arguments = Flow::default();
        for argument in call.args() {
            let flow = self.read(argument)?;
            arguments.join(&flow);
            flows.push(flow);
        }
        let Ok(parsed) = tree::parse(&function.body) else {
            return Ok(None);
        };
        let mut inner = Analyzer::new(self.session, self.limits, self.created);
        inner.opened = self.opened + 1;
        inner.path.clone_from(&self.session_path);
        inner.session_path.clone_from(&self.session_path);
        inner.nesting = self.nesting;
        inner.work = self.work;
        inner.in_view = self.in_view;
        inner.arguments = Some(Arguments {
            function: Arc::clone(&function.name),
            names: function.inputs.clone(),
            flows,
        });
        let mut rows = None;
        for statement in parsed.stmts() {
            let Node::SelectStmt(select) = statement else {
                return Ok(None);
            };
            if select.into_clause().is_some() {
                return Ok(None);
            }
            rows = match inner.query(select) {
                Ok(rows) => Some(rows),
                // `function.argument.*` is not read here: such a body is as opaque as one in another
                // language.
                Err(SqlRefusal::UnknownRelation(name)) if is_argument(function, &name) => {
                    return Ok(None);
                }
                // Nor is what no catalog explains; the call itself needs a permit.
                Err(refusal) if refusal.depends_on_catalog() && self.session.lenient => {
                    return Ok(None);
                }
                Err(refusal) => return Err(refusal),
            };
        }
        let Some(rows) = rows else {
            return Ok(None);
        };
        if inner.writes || inner.called.effects || inner.called.foreign || rows.open {
            return Ok(None);
        }
        self.within_session = true;
        self.work = inner.work;
        self.relations_read += inner.relations_read;
        self.called.security_definer |= inner.called.security_definer;
        self.touch_object("call", "Function", &[&function.schema, &function.name])?;
        for (action, touched) in inner.touched {
            self.touch(action, touched)?;
        }
        let rows = self.named_outputs(function, rows);
        Ok(Some(Opened { arguments, rows }))
    }

    /// The one function that the name can mean.
    fn openable(&self, call: &FuncCall, parts: &[&str]) -> Option<&'a SqlFunction> {
        let plain = call.over().is_none()
            && !call.agg_within_group
            && !call.func_variadic
            && matches!(call.agg_filter(), Node::None)
            && !call
                .args()
                .iter()
                .any(|argument| matches!(argument, Node::NamedArgExpr(_)));
        if !plain || self.opened >= DEPTH_MAX {
            return None;
        }
        let (schema, name) = match parts {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            _ => return None,
        };
        let catalog = self.catalog();
        let mut visible = catalog
            .functions(name)
            .iter()
            .filter(|function| match schema {
                Some(schema) => &*function.schema == schema,
                None => {
                    !self.path.is_known()
                        || effective_path(self.names).any(|schema| *schema == *function.schema)
                }
            });
        let (Some(only), None) = (visible.next(), visible.next()) else {
            return None;
        };
        if only.security_definer {
            return None;
        }
        catalog.sql_function(&only.schema, &only.name)
    }

    /// The columns by the names under which they can be used in FROM.
    fn named_outputs(&self, function: &SqlFunction, rows: Rows) -> Rows {
        let names: Vec<Arc<str>> = if !function.outputs.is_empty() {
            function.outputs.clone()
        } else if let Some(relation) = self.catalog().relation(function.relation) {
            relation
                .columns
                .iter()
                .map(|column| Arc::clone(&column.name))
                .collect()
        } else {
            vec![Arc::clone(&function.name)]
        };
        if names.len() != rows.columns.len() {
            let mut all = rows.rest;
            for column in &rows.columns {
                all.join(&column.flow);
            }
            // A row in one column: each of its fields may be any of it.
            if rows.columns.len() == 1 && !names.is_empty() {
                let fields = names
                    .into_iter()
                    .map(|name| Arc::new(Output::expression(name, all.clone())));
                return Rows {
                    columns: fields.collect(),
                    ..Rows::default()
                };
            }
            return Rows {
                open: true,
                rest: all.derived(),
                columns: Vec::new(),
            };
        }
        let columns = rows.columns.iter().zip(names).map(|(column, name)| {
            Arc::new(Output {
                name,
                flow: column.flow.clone(),
                plain: None,
                described: Some(NO_COLUMN),
            })
        });
        Rows {
            columns: columns.collect(),
            ..Rows::default()
        }
    }
}

impl Opened {
    /// Everything that comes out, as one value.
    pub(super) fn whole(&self) -> Flow {
        let mut all = self.rows.rest.clone();
        for column in &self.rows.columns {
            all.join(&column.flow);
        }
        all.derived()
    }
}

/// Whether the name is an argument's, as `argument` or `function.argument`.
fn is_argument(function: &SqlFunction, name: &str) -> bool {
    let qualified = |input: &str| {
        name.strip_prefix(&*function.name)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|rest| rest == input)
    };
    function
        .inputs
        .iter()
        .any(|input| !input.is_empty() && (**input == *name || qualified(input)))
}
