//! Bodies of SQL functions, opened: what they read is read, and what comes out is what flows there.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{CreateFunctionStmt, FuncCall};

use super::analyzer::{Analyzer, Level, effective_path, qualified};
use super::flow::{Flow, NO_COLUMN, Output, Rows};
use super::tree;
use super::{NameScope, SqlRefusal};
use crate::catalog::{SqlBody, SqlFunction};

/// Bodies within bodies; a deeper one is taken by policy's word, as any other code.
const DEPTH_MAX: usize = 6;

/// In place of a schema, in front of names of functions that an earlier statement of the text changes.
const CHANGED_FUNCTION: &str = "\u{0}function";

/// Remembers for the rest of the text that a statement changes what a function's name stands for, and
/// what `also` does.
pub(super) fn changes(name: &NodeList, also: Option<&str>, created: &mut BTreeSet<String>) {
    let last = name.iter().filter_map(Node::as_str).next_back();
    let names = last.into_iter().chain(also);
    created.extend(names.map(|name| qualified(CHANGED_FUNCTION, name)));
}

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

    /// `name` or `function.name`, and a field of either.
    pub(super) fn named(&self, qualifier: &[&str], name: &str) -> Option<Flow> {
        let whole = [qualifier, &[name]].concat();
        let path = match whole.split_first() {
            Some((first, rest)) if !rest.is_empty() && **first == *self.function => rest,
            _ => &whole,
        };
        // The first name is the argument's, or that of the function where both are the same.
        let is_input = |name: &str| self.names.iter().position(|known| **known == *name);
        let at = match path {
            [name] | [name, _] => is_input(name),
            _ => None,
        };
        let at = at.or_else(|| match whole.as_slice() {
            [name, _] => is_input(name),
            _ => None,
        })?;
        Some(self.flows.get(at).cloned().unwrap_or_default().derived())
    }
}

/// A function that was opened.
pub(super) struct Opened {
    /// Of what its arguments are made.
    pub(super) arguments: Flow,
    pub(super) rows: Rows,
    /// It changes rows.
    pub(super) writes: bool,
}

impl<'a> Analyzer<'a> {
    /// Opens the function that is called, if it is SQL that reads or changes rows. The call itself, and what the
    /// body does, are accesses; `None` when it is not such a function, and nothing is recorded then.
    pub(super) fn open(
        &mut self,
        call: &FuncCall,
        parts: &[&str],
    ) -> Result<Option<Opened>, SqlRefusal> {
        let name = parts.last().copied().unwrap_or_default();
        if self.created.contains(&qualified(CHANGED_FUNCTION, name)) {
            return Err(SqlRefusal::Unsupported(
                "a call of a function that an earlier statement of the text changes",
            ));
        }
        let Some(function) = self.openable(call, parts) else {
            return Ok(None);
        };
        // Whatever comes of it, it was looked at by way of the session's path.
        self.within_session = true;
        let mut flows = Vec::new();
        let mut arguments = Flow::default();
        for argument in call.args() {
            // What the body does with it may fail.
            let flow = self.assigned(argument, &Flow::default())?;
            arguments.join(&flow);
            flows.push(flow);
        }
        let (text, definition) = match &function.body {
            SqlBody::Source(text) => (text, false),
            SqlBody::Definition(text) => (text, true),
        };
        self.spend(text.len() / 16 + 500)?;
        let Ok(parsed) = tree::parse_definition(text) else {
            return Ok(None);
        };
        let path = settled_path(self.session);
        let settled = NameScope {
            lenient: false,
            path_settled: true,
            search_path: &path,
            ..*self.session
        };
        let names = if definition { &settled } else { self.session };
        let mut inner = Analyzer::new(names, self.limits, self.created);
        inner.session = self.session;
        if !definition {
            inner.path.clone_from(&self.session_path);
        }
        inner.within(self, function, flows);
        let statements = match (&function.body, parsed.stmts().next()) {
            (SqlBody::Source(_), _) => Some(parsed.stmts().collect()),
            (SqlBody::Definition(_), Some(Node::CreateFunctionStmt(made))) => body_of(made),
            (SqlBody::Definition(_), _) => None,
        };
        let rows = match statements {
            Some(statements) => body_rows(function, &mut inner, statements)?,
            None => None,
        };
        self.work = inner.work;
        let Some(rows) = rows else {
            return Ok(None);
        };
        // What a view does is remembered without what it writes.
        let unseen = inner.called.effects || inner.called.foreign || self.in_view && inner.writes;
        if unseen || rows.open {
            return Ok(None);
        }
        let writes = inner.writes;
        self.touch_object("call", "Function", &[&function.schema, &function.name])?;
        self.take_over(inner)?;
        let rows = self.named_outputs(function, rows);
        Ok(Some(Opened {
            arguments,
            rows,
            writes,
        }))
    }

    /// The state in which a body is read.
    fn within(&mut self, outer: &Analyzer<'_>, function: &SqlFunction, flows: Vec<Flow>) {
        self.opened = outer.opened + 1;
        self.session_path.clone_from(&outer.session_path);
        self.nesting = outer.nesting;
        self.work = outer.work;
        self.in_view = outer.in_view;
        self.arguments = Some(Arguments {
            function: Arc::clone(&function.name),
            names: function.inputs.clone(),
            flows,
        });
    }

    /// What a body does is done by who calls it.
    fn take_over(&mut self, mut inner: Analyzer<'_>) -> Result<(), SqlRefusal> {
        self.writes |= inner.writes;
        self.triggers |= inner.triggers;
        self.unbounded |= inner.unbounded;
        self.diverted.append(&mut inner.diverted);
        self.relations_read += inner.relations_read;
        self.called.security_definer |= inner.called.security_definer;
        for (action, touched) in inner.touched {
            self.touch(action, touched)?;
        }
        Ok(())
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

impl Analyzer<'_> {
    /// CREATE FUNCTION … LANGUAGE sql. What it gives goes where it is called, with whatever name and in
    /// whatever place (a default, an index, an operator), so it is asked for like a view's columns.
    pub(super) fn new_body(&mut self, create: &CreateFunctionStmt) -> Result<(), SqlRefusal> {
        let option = |name: &str| {
            let mut options = create.options().iter();
            options
                .find(|option| option.defname() == Some(name))
                .map(|option| option.arg())
        };
        let language = option("language").and_then(Node::as_str).unwrap_or("sql");
        if !language.eq_ignore_ascii_case("sql") {
            return Ok(());
        }
        let source = match option("as") {
            Some(Node::NodeList(texts)) => texts.first().and_then(Node::as_str),
            _ => None,
        };
        let parsed = source.map(tree::parse);
        let statements = match (&parsed, body_of(create)) {
            (Some(Ok(parsed)), _) => parsed.stmts().collect(),
            (None, Some(statements)) => statements,
            // The server says what is wrong with it.
            _ => return Ok(()),
        };
        let name = create
            .funcname()
            .iter()
            .filter_map(Node::as_str)
            .next_back();
        let parameters = create.parameters().iter();
        let function = SqlFunction {
            schema: Arc::from(""),
            name: Arc::from(name.unwrap_or_default()),
            body: SqlBody::Source(Arc::from("")),
            inputs: parameters
                .map(|parameter| Arc::from(parameter.name().unwrap_or_default()))
                .collect(),
            outputs: Vec::new(),
            relation: 0,
        };
        let mut inner = Analyzer::new(self.names, self.limits, self.created);
        inner.path.clone_from(&self.path);
        inner.within(self, &function, Vec::new());
        // A body that is not understood is one that is not opened when it is called.
        let rows = body_rows(&function, &mut inner, statements).unwrap_or_default();
        self.work = inner.work;
        for (action, touched) in std::mem::take(&mut inner.touched) {
            if action == "usePredicate" {
                self.touch(action, touched)?;
            }
        }
        for id in std::mem::take(&mut inner.diverted) {
            self.flow_into(&Flow::one(id), None)?;
        }
        match rows {
            Some(rows) => self.use_up(&rows),
            None => Ok(()),
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

/// Where names of a definition without a schema stand: the session's temporary tables are written so.
fn settled_path(session: &NameScope<'_>) -> Vec<Arc<str>> {
    let path = session.search_path.iter();
    path.filter(|schema| schema.starts_with("pg_temp_"))
        .cloned()
        .chain([Arc::from("pg_catalog")])
        .collect()
}

/// The statements of `BEGIN ATOMIC`, or the one RETURN; `None` without such a body.
fn body_of(made: &CreateFunctionStmt) -> Option<Vec<Node<'_>>> {
    match made.sql_body() {
        Node::None => None,
        // Statements stand in a list of a list.
        Node::NodeList(lists) => Some(
            lists
                .iter()
                .flat_map(|list| match list {
                    Node::NodeList(statements) => statements.iter().collect(),
                    statement => vec![statement],
                })
                .collect(),
        ),
        statement => Some(vec![statement]),
    }
}

/// What the last statement gives. `None` when the body is one that is taken by policy's word.
fn body_rows(
    function: &SqlFunction,
    inner: &mut Analyzer<'_>,
    statements: Vec<Node<'_>>,
) -> Result<Option<Rows>, SqlRefusal> {
    let mut rows = None;
    for statement in statements {
        let found = match statement {
            Node::SelectStmt(select) if select.into_clause().is_none() => inner.query(select),
            Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => inner.query_node(statement),
            Node::ReturnStmt(returned) => {
                inner.levels.push(Level::default());
                let value = inner.read(returned.returnval());
                inner.levels.pop();
                value.map(|flow| Rows {
                    columns: vec![Arc::new(Output::expression(Arc::from(""), flow))],
                    ..Rows::default()
                })
            }
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
