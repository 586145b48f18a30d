//! Bodies of SQL functions, opened: what they read is read, and what comes out is what flows there.

use std::sync::Arc;

use pg_raw_parse::nodes::FuncCall;
use pg_raw_parse::{Node, ParseResult};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Level, effective_path};
use super::flow::{Flow, NO_COLUMN, Output, Rows};
use super::tree;
use crate::catalog::{SqlBody, SqlFunction};

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
    /// Opens the function that is called, if it is SQL that reads or changes rows. The call itself, and what the
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
        let (text, definition) = match &function.body {
            SqlBody::Source(text) => (text, false),
            SqlBody::Definition(text) => (text, true),
        };
        let Ok(parsed) = tree::parse(text) else {
            return Ok(None);
        };
        // The session's temporary tables are written without their schema.
        let path: Vec<Arc<str>> = self
            .session
            .search_path
            .iter()
            .filter(|schema| schema.starts_with("pg_temp_"))
            .cloned()
            .chain([Arc::from("pg_catalog")])
            .collect();
        let settled = super::NameScope {
            lenient: false,
            path_settled: true,
            search_path: &path,
            ..*self.session
        };
        let names = if definition { &settled } else { self.session };
        let mut inner = Analyzer::new(names, self.limits, self.created);
        inner.session = self.session;
        inner.opened = self.opened + 1;
        if !definition {
            inner.path.clone_from(&self.session_path);
        }
        inner.session_path.clone_from(&self.session_path);
        inner.nesting = self.nesting;
        inner.work = self.work;
        inner.in_view = self.in_view;
        inner.arguments = Some(Arguments {
            function: Arc::clone(&function.name),
            names: function.inputs.clone(),
            flows,
        });
        let Some(rows) = body_rows(function, &mut inner, &parsed)? else {
            return Ok(None);
        };
        // What a view does is remembered without what it writes.
        let unseen = inner.called.effects || inner.called.foreign || self.in_view && inner.writes;
        if unseen || rows.open {
            return Ok(None);
        }
        self.within_session = true;
        self.writes |= inner.writes;
        self.triggers |= inner.triggers;
        self.unbounded |= inner.unbounded;
        self.diverted.append(&mut inner.diverted);
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

/// What the last statement gives, or the value that is returned. `None` when the body is one that is
/// taken by policy's word.
fn body_rows(
    function: &SqlFunction,
    inner: &mut Analyzer<'_>,
    parsed: &ParseResult,
) -> Result<Option<Rows>, SqlRefusal> {
    let statements: Vec<Node<'_>> = match (&function.body, parsed.stmts().next()) {
        (SqlBody::Source(_), _) => parsed.stmts().collect(),
        (SqlBody::Definition(_), Some(Node::CreateFunctionStmt(made))) => match made.sql_body() {
            Node::ReturnStmt(returned) => {
                inner.levels.push(Level::default());
                let value = inner.read(returned.returnval());
                inner.levels.pop();
                return known(function, inner, value).map(|flow| {
                    flow.map(|flow| Rows {
                        columns: vec![Arc::new(Output::expression(Arc::from(""), flow))],
                        ..Rows::default()
                    })
                });
            }
            // Statements stand in a list of a list.
            Node::NodeList(lists) => lists
                .iter()
                .flat_map(|list| match list {
                    Node::NodeList(statements) => statements.iter().collect(),
                    statement => vec![statement],
                })
                .collect(),
            _ => return Ok(None),
        },
        (SqlBody::Definition(_), _) => return Ok(None),
    };
    let mut rows = None;
    for statement in statements {
        let found = match statement {
            Node::SelectStmt(select) if select.into_clause().is_none() => inner.query(select),
            Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => inner.query_node(statement),
            _ => return Ok(None),
        };
        rows = known(function, inner, found)?;
        if rows.is_none() {
            return Ok(None);
        }
    }
    Ok(rows)
}

/// What was found, or `None` where the body is as opaque as one in another language.
fn known<T>(
    function: &SqlFunction,
    inner: &Analyzer<'_>,
    found: Result<T, SqlRefusal>,
) -> Result<Option<T>, SqlRefusal> {
    match found {
        Ok(found) => Ok(Some(found)),
        // `function.argument.*` is not read here.
        Err(SqlRefusal::UnknownRelation(name)) if is_argument(function, &name) => Ok(None),
        // Nor is what no catalog explains; the call itself needs a permit.
        Err(refusal) if refusal.depends_on_catalog() && inner.session.lenient => Ok(None),
        Err(refusal) => Err(refusal),
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
