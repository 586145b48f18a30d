//! Access to the grammar's tree: one level at a time, never recursive.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, ParseResult};

use super::SqlRefusal;

/// The parser redirects the process's standard error while it runs; two at once could leave it
/// redirected for good.
static PARSER: Mutex<()> = Mutex::new(());

/// Parses with the server's grammar.
pub(super) fn parse(sql: &str) -> Result<ParseResult, SqlRefusal> {
    if sql.as_bytes().contains(&0) {
        return Err(SqlRefusal::Nul);
    }
    let _alone = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
    pg_raw_parse::parse(sql).map_err(|error| {
        let mut text = error.to_string();
        if let Some(message) = text.strip_prefix("Invalid statement: ") {
            text = message.to_owned();
        }
        if text.starts_with("unrecognized partitioning strategy") {
            // Before 16 the grammar takes it.
            return SqlRefusal::AsServer {
                sqlstate: "22023",
                text,
            };
        }
        SqlRefusal::Syntax(text)
    })
}

/// As [`parse`] for what `pg_get_viewdef` gives. It writes the marks of a CYCLE clause with a type, which
/// the grammar does not take there.
pub(super) fn parse_definition(sql: &str) -> Result<ParseResult, SqlRefusal> {
    parse(sql).or_else(|refusal| match without_types_of_marks(sql) {
        Some(sql) => parse(&sql),
        None => Err(refusal),
    })
}

/// `CYCLE … SET c TO 'Y'::text DEFAULT 'N'::text USING …` without the types.
fn without_types_of_marks(sql: &str) -> Option<String> {
    let cycle = sql.find(" CYCLE ")?;
    let start = cycle + sql.get(cycle..)?.find(" TO ")?;
    let end = start + sql.get(start..)?.find(" USING ")?;
    let mut marks = String::new();
    for (at, word) in sql.get(start..end)?.split(' ').enumerate() {
        if at > 0 {
            marks.push(' ');
        }
        marks.push_str(word.split_once("::").map_or(word, |(mark, _)| mark));
    }
    Some([sql.get(..start)?, &marks, sql.get(end..)?].concat())
}

/// Calls `each` for every direct child of an expression node.
///
/// Returns `false`, without a call, for kinds of nodes whose children the library cannot list
/// (it would panic).
pub(super) fn children<'a>(node: Node<'a>, mut each: impl FnMut(Node<'a>)) -> bool {
    if !is_listable(node) {
        return false;
    }
    walk_manual::<()>(node, |child| {
        each(child);
        ControlFlow::Continue(Recurse::No)
    });
    true
}

/// The kinds that `raw_expression_tree_walker` of PostgreSQL 18 (nodeFuncs.c) knows.
#[rustfmt::skip]
fn is_listable(node: Node<'_>) -> bool {
    use Node::*;
    matches!(
        node,
        NodeList(_) | SetToDefault(_) | CurrentOfExpr(_) | SQLValueFunction(_) | Integer(_)
        | Float(_) | Boolean(_) | String(_) | BitString(_) | ParamRef(_) | A_Const(_) | A_Star(_)
        | MergeSupportFunc(_) | ReturningOption(_) | Alias(_) | RangeVar(_) | GroupingFunc(_)
        | SubLink(_) | CaseExpr(_) | CaseWhen(_) | RowExpr(_) | CoalesceExpr(_) | MinMaxExpr(_)
        | XmlExpr(_) | JsonReturning(_) | JsonValueExpr(_) | JsonParseExpr(_) | JsonScalarExpr(_)
        | JsonSerializeExpr(_) | JsonConstructorExpr(_) | JsonIsPredicate(_) | JsonArgument(_)
        | JsonFuncExpr(_) | JsonBehavior(_) | JsonTable(_) | JsonTableColumn(_)
        | JsonTablePathSpec(_) | JsonFormat(_) | NullTest(_) | BooleanTest(_) | A_Expr(_)
        | BoolExpr(_) | ColumnRef(_) | FuncCall(_) | NamedArgExpr(_) | A_Indices(_)
        | A_Indirection(_) | A_ArrayExpr(_) | ResTarget(_) | MultiAssignRef(_) | TypeCast(_)
        | CollateClause(_) | SortBy(_) | WindowDef(_) | TypeName(_) | ColumnDef(_) | IndexElem(_)
        | GroupingSet(_) | XmlSerialize(_) | JsonOutput(_) | JsonKeyValue(_)
        | JsonObjectConstructor(_) | JsonArrayConstructor(_) | JsonAggConstructor(_)
        | JsonObjectAgg(_) | JsonArrayAgg(_) | JsonArrayQueryConstructor(_)
        | RangeTableFuncCol(_) | RangeTableFunc(_)
    )
}

/// The strings of a list of names; `None` when something else is among them.
pub(super) fn names(list: &pg_raw_parse::list::NodeList) -> Option<Vec<&str>> {
    list.iter().map(Node::as_str).collect()
}
