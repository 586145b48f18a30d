//! What a text of SQL would do: effects and objects for policy, lineage for masking.
//!
//! The server's own grammar parses the text; names are resolved against a [`Catalog`] as the
//! session's role and `search_path` would resolve them. Everything that cannot be resolved,
//! limited or classified is a refusal: nothing is passed on because it was not understood.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar has 270 kinds of nodes; what a match does not name is refused or listed \
              generically"
)]

mod altered;
mod analyzer;
mod attached;
mod column_name;
mod copy;
mod ddl;
mod expr;
pub(crate) mod flow;
mod foreign;
mod from;
mod functions;
mod guards;
mod moved;
mod outcome;
mod partial;
mod path;
mod query;
mod resolve;
mod routine;
mod secrets;
mod setting;
mod statement;
mod table;
mod tree;
mod write;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

pub(crate) use analyzer::ViewLineage;
pub(crate) use functions::is_pinned;
pub(crate) use setting::is_utf8;

use pg_raw_parse::Node;
use weir_model::fault::{Fault, FaultKind};
use weir_model::request::{Intent, Object};

use crate::catalog::Catalog;

/// Where names are looked up.
pub struct NameScope<'a> {
    pub catalog: &'a Catalog,
    pub target: &'a Arc<str>,
    pub database: &'a Arc<str>,
    /// The effective path, first match wins; `pg_catalog` is searched first unless it is listed.
    pub search_path: &'a [Arc<str>],
    /// The role that the server checks privileges of (`SET ROLE` followed).
    pub role: &'a str,
    /// The catalog is as new as can be: a statement that gives no rows may name a relation that is
    /// not there, as the one that it would be. The server then says that there is none.
    pub lenient: bool,
    /// `search_path` was not changed in the open transaction, so that its end does not change it.
    pub path_settled: bool,
}

/// Bounds on one text of SQL.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Bytes of the whole text.
    pub text_bytes_max: usize,
    /// Statements in one text.
    pub statements_max: usize,
    /// Levels of the syntax tree.
    pub depth_max: usize,
    /// Levels of nested queries, joins and views.
    pub nesting_max: usize,
    /// Distinct accesses of one statement.
    pub accesses_max: usize,
    /// Steps of work over the whole text (nodes visited, columns copied).
    pub work_max: usize,
    /// Key of [`Statement::shape`].
    pub shape_key: [u8; 32],
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self {
            text_bytes_max: 16 << 20,
            statements_max: 1000,
            depth_max: 4000,
            nesting_max: 48,
            accesses_max: 10_000,
            work_max: 20_000_000,
            shape_key: [0; 32],
        }
    }
}

/// One statement of a text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// Where it stands in the text, without the separating `;`.
    pub text: Range<usize>,
    pub intent: Arc<Intent>,
    /// The row shape when the statement returns rows and the shape is known before it runs.
    pub columns: Option<Vec<OutputColumn>>,
    pub kind: StatementKind,
    /// Whether rows (or COPY OUT data) come back. `EXECUTE` and `FETCH` say `true`; what they
    /// return is the business of what they name.
    pub returns_rows: bool,
    pub changes: Changes,
    /// The text for the record: passwords and connection secrets replaced by a marker.
    pub redacted: Arc<str>,
    /// Literals compared with or assigned to a column: byte ranges within [`Self::redacted`],
    /// quotes included, sorted; a range stands once for each column. Replace it where one of
    /// them is masked.
    pub compared_literals: Vec<(Range<usize>, Object)>,
    /// Parameters (`$n`, from 1) compared with or assigned to a column.
    pub compared_parameters: Vec<(u16, Object)>,
    /// Parameters that name a setting which is changed: known when they are bound.
    #[serde(default)]
    pub setting_parameters: Vec<u16>,
    /// Columns whose values go elsewhere than into [`Self::columns`]: into a table, a function
    /// with effects, a file. A mask cannot be applied there.
    pub diverted: Vec<Object>,
    /// It runs code that is not seen here: triggers, rules, functions that are not built in, DO, CALL.
    /// What such code says in errors and notices may be anything.
    #[serde(default)]
    pub unseen: bool,
    /// Keyed digest of the text with literals replaced by `?`.
    pub shape: u64,
}

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputColumn {
    pub name: String,
    /// Every column (of tables and of views on the way) whose values can flow into this one.
    pub sources: Vec<Object>,
    /// Those of `sources` that only ever arrive unchanged (aliases, sub-queries, views, UNION
    /// branches); a masked source outside this list means the value must be withheld.
    pub exact: Vec<Object>,
    /// Set when the value is exactly one base column.
    pub plain: Option<PlainColumn>,
    /// Table OID and attribute number that the server's `RowDescription` should show; of a view's
    /// column those of the view. `(0, 0)` for an expression; `None` when not predicted.
    pub described: Option<(u32, i16)>,
}

/// A base column that an output column is equal to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainColumn {
    pub table_oid: u32,
    pub attnum: i16,
    pub object: Object,
}

/// What the session and the server's own state are changed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// `search_path` may be another one afterwards (also by ROLLBACK, DISCARD, RESET ALL).
    pub search_path: bool,
    /// It names `search_path` itself.
    #[serde(default)]
    pub names_path: bool,
    /// Objects were made, altered or dropped: the catalog snapshot is stale.
    pub catalog: bool,
    /// Only temporary ones, which nobody else sees.
    #[serde(default)]
    pub temporary: bool,
    /// The effective role may be another one afterwards.
    pub role: bool,
    /// It would change a setting that Weir pins (`standard_conforming_strings`,
    /// `client_encoding` …): refuse.
    pub session_pins: bool,
    /// A transaction of it may write, whatever the session's default is.
    #[serde(default)]
    pub writable: bool,
    /// Settings get the values that the session began with (RESET ALL, DISCARD ALL).
    #[serde(default)]
    pub resets: bool,
}

impl StatementKind {
    /// The prepared statement that is run, or shown how it would run.
    pub(crate) const fn executes(&self) -> Option<&Arc<str>> {
        match self {
            Self::Execute { name }
            | Self::FillByExecute { name }
            | Self::Explain {
                executes: Some(name),
                ..
            } => Some(name),
            _ => None,
        }
    }
}

/// The statement's class.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StatementKind {
    Select,
    /// INSERT, UPDATE, DELETE, MERGE, or a SELECT with such a CTE.
    Write,
    Ddl,
    Transaction(Transaction),
    Set {
        name: Arc<str>,
    },
    Show {
        name: Arc<str>,
    },
    /// `executes` is the prepared statement of EXPLAIN EXECUTE.
    Explain {
        analyze: bool,
        #[serde(default)]
        executes: Option<Arc<str>>,
        /// That of CREATE TABLE AS EXECUTE.
        #[serde(default)]
        fills: bool,
    },
    /// `inner` is decided with this statement; its columns are those of every `EXECUTE`.
    Prepare {
        name: Arc<str>,
        inner: Box<Statement>,
    },
    Execute {
        name: Arc<str>,
    },
    /// CREATE TABLE AS EXECUTE.
    FillByExecute {
        name: Arc<str>,
    },
    /// `None` is `DEALLOCATE ALL`.
    Deallocate {
        name: Option<Arc<str>>,
    },
    /// `inner` has the columns of every `FETCH`.
    Declare {
        name: Arc<str>,
        hold: bool,
        inner: Box<Statement>,
    },
    Fetch {
        name: Arc<str>,
        moves: bool,
    },
    /// `None` is `CLOSE ALL`.
    Close {
        name: Option<Arc<str>>,
    },
    Copy {
        direction: CopyDirection,
        format: CopyFormat,
    },
    Call,
    Do,
    Listen,
    Notify,
    /// `DISCARD ALL` (also drops prepared statements and resets settings) or a part of it.
    Discard {
        all: bool,
    },
    /// LOCK, VACUUM, CHECKPOINT and the like.
    Other,
}

/// Transaction control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transaction {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    Prepare,
    CommitPrepared,
    RollbackPrepared,
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS, SET CONSTRAINTS.
    Characteristics,
}

/// Where COPY moves data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyDirection {
    /// FROM STDIN: CopyData comes from the client.
    In,
    /// TO STDOUT: CopyData goes to the client; the columns are in [`Statement::columns`].
    Out,
    /// A file or a program of the server.
    Server,
}

/// Format of COPY data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyFormat {
    /// `null` is the text that stands for NULL.
    Text {
        delimiter: u8,
        null: String,
        header: bool,
    },
    Csv {
        delimiter: u8,
        quote: u8,
        escape: u8,
        null: String,
        header: bool,
    },
    Binary,
    /// Options that are not understood, or another encoding: nothing in it can be masked.
    Other,
}

/// Why a text is refused before policy is asked. Each variant has its own sentence for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlRefusal {
    /// The server's grammar does not accept it. The text is the grammar's message.
    #[error("syntax error: {0}")]
    Syntax(String),
    #[error("the statement is nested too deeply")]
    TooDeep,
    #[error("the text is longer than the limit")]
    TooLong,
    #[error("the text holds more statements than the limit")]
    TooManyStatements,
    #[error("the statement touches more objects than the limit")]
    TooManyAccesses,
    #[error("the statement is too complex to be understood within the limit")]
    TooComplex,
    #[error("relation \"{0}\" is not known")]
    UnknownRelation(String),
    #[error("column \"{0}\" is not known")]
    UnknownColumn(String),
    #[error("the text holds a NUL byte")]
    Nul,
    /// Nothing can be looked up for it: the transaction has failed.
    #[error("current transaction is aborted, commands ignored until end of transaction block")]
    TransactionFailed,
    #[error("changing a setting that statements are understood by is not supported")]
    Pinned,
    #[error("policy permits only reads here, so transactions stay read-only")]
    ReadOnly,
    /// Cannot be classified; the text says what.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// What every server says of it when it runs, in its words; its parser does not look at it.
    #[error("{text}")]
    AsServer {
        sqlstate: &'static str,
        text: String,
    },
}

impl SqlRefusal {
    /// Whether a fresh catalog snapshot may change the answer.
    #[must_use]
    pub const fn depends_on_catalog(&self) -> bool {
        matches!(self, Self::UnknownRelation(_) | Self::UnknownColumn(_))
    }

    /// Whether the server may be asked to say it in its own words: all but what is over a limit.
    #[must_use]
    pub const fn server_may_say(&self) -> bool {
        match self {
            Self::Syntax(_)
            | Self::UnknownRelation(_)
            | Self::UnknownColumn(_)
            | Self::TransactionFailed
            | Self::Unsupported(_) => true,
            Self::TooDeep
            | Self::TooLong
            | Self::TooManyStatements
            | Self::TooManyAccesses
            | Self::TooComplex
            | Self::Pinned
            | Self::ReadOnly
            | Self::AsServer { .. }
            | Self::Nul => false,
        }
    }

    /// The SQLSTATE a server would use for it.
    #[must_use]
    pub const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "42601",
            Self::TooDeep | Self::TooLong | Self::TooManyStatements => "54001",
            Self::TooManyAccesses | Self::TooComplex => "54001",
            Self::UnknownRelation(_) => "42P01",
            Self::UnknownColumn(_) => "42703",
            Self::Nul => "22021",
            Self::TransactionFailed => "25P02",
            Self::ReadOnly => "25006",
            Self::Unsupported(_) | Self::Pinned => "0A000",
            Self::AsServer { sqlstate, .. } => sqlstate,
        }
    }
}

impl Fault for SqlRefusal {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Syntax(_) | Self::Nul => FaultKind::PeerMalformed,
            Self::TooDeep
            | Self::TooLong
            | Self::TooManyStatements
            | Self::TooManyAccesses
            | Self::TooComplex => FaultKind::Limit,
            Self::UnknownRelation(_)
            | Self::UnknownColumn(_)
            | Self::TransactionFailed
            | Self::Pinned
            | Self::ReadOnly
            | Self::AsServer { .. }
            | Self::Unsupported(_) => FaultKind::Denied,
        }
    }
}

/// Understands a text of SQL: one [`Statement`] for each of its statements, in order; none for
/// an empty text.
///
/// # Errors
/// [`SqlRefusal`]; the whole text is refused when one of its statements is.
pub fn understand(
    sql: &str,
    scope: &NameScope<'_>,
    limits: &SqlLimits,
) -> Result<Vec<Statement>, SqlRefusal> {
    if sql.len() > limits.text_bytes_max {
        return Err(SqlRefusal::TooLong);
    }
    guarded(|| understand_text(sql, scope, limits, &mut (0..0)))
}

/// As [`understand`] for the text that a function ran: a name that nothing has is a variable of it.
/// `path_moved` says that the session's path may have been another one then.
pub(crate) fn understand_of_function(
    sql: &str,
    scope: &NameScope<'_>,
    limits: &SqlLimits,
    path_moved: bool,
) -> Result<Vec<Statement>, SqlRefusal> {
    if sql.len() > limits.text_bytes_max {
        return Err(SqlRefusal::TooLong);
    }
    let context = statement::Context {
        variables: true,
        // What it read when it ran may have been shadowed since.
        path: if path_moved {
            path::Path::Unknown
        } else {
            path::Path::Removed
        },
        ..statement::Context::new(sql, scope, limits)
    };
    guarded(|| understand_each(context, &mut (0..0)))
}

/// The library's typed lists panic on a node they do not expect; that is a refusal as well.
fn guarded(
    understanding: impl FnOnce() -> Result<Vec<Statement>, SqlRefusal>,
) -> Result<Vec<Statement>, SqlRefusal> {
    std::panic::catch_unwind(AssertUnwindSafe(understanding))
        .unwrap_or(Err(SqlRefusal::Unsupported("a statement of that form")))
}

/// Where the first statement stands that is not understood; all of the text when that is not known.
pub(crate) fn refused_at(sql: &str, scope: &NameScope<'_>, limits: &SqlLimits) -> Range<usize> {
    std::panic::catch_unwind(AssertUnwindSafe(|| {
        let mut at = 0..sql.len();
        let _refusal = understand_text(sql, scope, limits, &mut at);
        at
    }))
    .unwrap_or(0..sql.len())
}

/// `at` is where the statement stands that was looked at last.
fn understand_text(
    sql: &str,
    scope: &NameScope<'_>,
    limits: &SqlLimits,
    at: &mut Range<usize>,
) -> Result<Vec<Statement>, SqlRefusal> {
    understand_each(statement::Context::new(sql, scope, limits), at)
}

fn understand_each(
    mut context: statement::Context<'_>,
    at: &mut Range<usize>,
) -> Result<Vec<Statement>, SqlRefusal> {
    let (sql, scope, limits) = (context.sql, context.names, context.limits);
    let parsed = tree::parse(sql)?;
    let mut created = BTreeSet::new();
    let mut statements = Vec::new();
    let mut changed = false;
    for raw in parsed.iter() {
        if statements.len() >= limits.statements_max {
            return Err(SqlRefusal::TooManyStatements);
        }
        let text = range_of(sql, raw.stmt_location, raw.stmt_len);
        *at = text.clone();
        let one = statement::statement(&context, raw.stmt(), text, &mut created, 0)?;
        let listed = match raw.stmt() {
            Node::VariableSetStmt(set) => path::listed(set),
            _ => None,
        };
        // The end of a transaction undoes what was changed in it, and nothing was.
        let undoes_nothing =
            matches!(one.kind, StatementKind::Transaction(_)) && scope.path_settled && !changed;
        if one.changes.search_path && !undoes_nothing {
            context.path = listed.unwrap_or(path::Path::Unknown);
            changed = true;
        } else if one.kind.executes().is_some() || matches!(one.kind, StatementKind::Fetch { .. }) {
            // What it runs is not seen here.
            context.path = path::Path::Unknown;
        } else if one.changes.role && !path::has_no_schema(raw.stmt(), scope) {
            context.path = path::Path::Unknown;
        } else if (one.changes.role || path::removes(raw.stmt())) && context.path.is_known() {
            context.path = path::Path::Removed;
        }
        statements.push(one);
    }
    Ok(statements)
}

/// Where the query stands within CREATE VIEW, COPY or PREPARE (of a statement without parameters), and
/// nothing for other texts. The grammar does not say; the first part of the text that is a query is it.
pub(crate) fn query_within(sql: &str) -> Option<Range<usize>> {
    const WORDS: [&str; 6] = ["select", "with", "values", "insert", "update", "delete"];
    const TRIES_MAX: usize = 16;
    let is_query = |text: &str| {
        let parsed = tree::parse(text).ok()?;
        let mut statements = parsed.iter();
        let only = statements.next().filter(|_| statements.len() == 0)?;
        matches!(
            only.stmt(),
            Node::SelectStmt(_) | Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_)
        )
        .then_some(())
    };
    let parsed = tree::parse(sql).ok()?;
    let mut statements = parsed.iter();
    let only = statements.next().filter(|_| statements.len() == 0)?;
    match only.stmt() {
        Node::ViewStmt(_) | Node::CopyStmt(_) => {}
        Node::PrepareStmt(prepare) if prepare.argtypes().is_empty() => {}
        _ => return None,
    }
    let lower = sql.to_ascii_lowercase();
    let starts = lower.char_indices().map(|(at, _)| at).filter(|at| {
        let before = lower.get(..*at).and_then(|text| text.chars().next_back());
        let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let rest = lower.get(*at..).unwrap_or_default();
        !in_word && WORDS.iter().any(|word| rest.starts_with(word))
    });
    let ends: Vec<usize> = std::iter::once(sql.len())
        .chain(sql.rmatch_indices(')').map(|(at, _)| at))
        .collect();
    starts
        .flat_map(|start| {
            let ends = ends.iter().filter(move |end| **end > start);
            ends.map(move |end| start..*end)
        })
        .take(TRIES_MAX)
        .find(|range| sql.get(range.clone()).and_then(is_query).is_some())
}

/// The server's grammar's tree of a text, for whoever reads definitions.
pub(crate) fn parsed(sql: &str) -> Result<pg_raw_parse::ParseResult, SqlRefusal> {
    tree::parse(sql)
}

/// What a text without a statement is: it touches nothing, and the server answers that it is empty.
///
/// # Errors
/// [`SqlRefusal`] when the text is over a limit.
pub fn nothing(
    sql: &str,
    scope: &NameScope<'_>,
    limits: &SqlLimits,
) -> Result<Statement, SqlRefusal> {
    let context = statement::Context::new(sql, scope, limits);
    let created = BTreeSet::new();
    let analyzer = analyzer::Analyzer::new(scope, limits, &created);
    let class = statement::Class::new(StatementKind::Other);
    outcome::finish(&context, analyzer, class, 0..sql.len())
}

/// The grammar gives a start and a length; no length means up to the end.
pub(crate) fn range_of(sql: &str, location: i32, length: i32) -> Range<usize> {
    let start = usize::try_from(location).unwrap_or(0).min(sql.len());
    let rest = sql.get(start..).unwrap_or_default();
    let blank = rest.len() - rest.trim_ascii_start().len();
    let end = match usize::try_from(length) {
        Ok(length) if length > 0 => (start + length).min(sql.len()),
        _ => start + rest.trim_ascii_end().len(),
    };
    (start + blank).min(end)..end
}
