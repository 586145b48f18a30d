//! Parts of an expression that decide what else of it is computed.
//!
//! `case when ssn < 'm' then (select …) end` runs the query for some values only, and so does a cast or
//! a call that may fail of a value that is chosen so: what they choose by is a predicate. Where all that
//! is chosen is a value that is shown, its mask is enough.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{A_Expr, CaseExpr};
use pg_raw_parse::raw::A_Expr_Kind;

use super::SqlRefusal;
use super::analyzer::Analyzer;
use super::{partial, tree};

/// Nodes that are looked through for a query; more of them count as one.
const NODES_MAX: usize = 2_000;

/// Built-in functions that give a value for every argument, or fail for none that can be chosen.
const TOTAL: &[&str] = &[
    "array_append",
    "array_length",
    "array_to_json",
    "array_to_string",
    "ascii",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "count",
    "every",
    "first_value",
    "floor",
    "initcap",
    "json_agg",
    "json_build_array",
    "jsonb_agg",
    "jsonb_build_array",
    "jsonb_strip_nulls",
    "lag",
    "last_value",
    "lead",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "quote_literal",
    "quote_nullable",
    "reverse",
    "right",
    "round",
    "row_to_json",
    "rtrim",
    "sha256",
    "sign",
    "starts_with",
    "string_agg",
    "strpos",
    "to_json",
    "to_jsonb",
    "translate",
    "trunc",
    "upper",
];

impl Analyzer<'_> {
    /// Whether a function gives a value whatever it is given.
    pub(super) fn is_total(&self, parts: &[&str]) -> bool {
        let name = parts.last().copied().unwrap_or_default();
        let own = |known: &crate::catalog::Function| &*known.schema != "pg_catalog";
        TOTAL.contains(&name) && !self.catalog().functions(name).iter().any(own)
    }

    /// Whether a query, or the body of a function, is run within the node.
    fn runs_query(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        let mut pending = vec![node];
        for _ in 0..NODES_MAX {
            let Some(node) = pending.pop() else {
                return Ok(false);
            };
            self.spend(1)?;
            match node {
                Node::SubLink(_) => return Ok(true),
                Node::FuncCall(call) => {
                    let parts = tree::names(call.funcname()).unwrap_or_default();
                    if !self.is_total(&parts) {
                        return Ok(true);
                    }
                }
                // `row.f` is also how a function of a row can be written.
                Node::ColumnRef(column) if column.fields().len() > 1 => {
                    let name = column.fields().iter().next_back().and_then(Node::as_str);
                    let functions = name.map_or(&[][..], |name| self.catalog().functions(name));
                    if functions.iter().any(|one| &*one.schema != "pg_catalog") {
                        return Ok(true);
                    }
                }
                Node::TypeCast(cast)
                    if !partial::is_total_type(cast) && !matches!(cast.arg(), Node::A_Const(_)) =>
                {
                    return Ok(true);
                }
                Node::A_Expr(expr) if self.operator_is_partial(expr) || is_pattern(expr) => {
                    return Ok(true);
                }
                _ => {}
            }
            if !tree::children(node, |child| pending.push(child)) && !matches!(node, Node::None) {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Whether what a CASE chooses between is more than values.
    pub(super) fn chooses_work(&mut self, case: &CaseExpr) -> Result<bool, SqlRefusal> {
        let results = case.args().iter().map(|when| match when {
            Node::CaseWhen(when) => when.result(),
            other => other,
        });
        self.any_runs_query(results.chain([case.defresult()]))
    }

    /// The same of operands of which a later one is looked at only where the earlier ones leave it open.
    pub(super) fn any_runs_query<'n>(
        &mut self,
        nodes: impl Iterator<Item = Node<'n>>,
    ) -> Result<bool, SqlRefusal> {
        for node in nodes {
            if self.runs_query(node)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether an argument of a function that is built in says how it is done, and not with what.
pub(super) fn chooses(name: &str, at: usize, of: usize) -> bool {
    match name {
        _ if of == 1 => false,
        "date_part" | "date_trunc" | "extract" | "format" | "timezone" | "to_tsvector" => at == 0,
        "age" | "array_append" | "array_cat" | "array_position" | "array_positions"
        | "array_prepend" | "array_remove" | "array_replace" | "json_build_object"
        | "json_object" | "json_object_agg" | "jsonb_build_object" | "jsonb_insert"
        | "jsonb_object" | "jsonb_object_agg" | "jsonb_set" | "position" => false,
        _ => at > 0,
    }
}

/// Whether an operator compares, so that its result is an answer.
pub(super) fn compares(expr: &A_Expr) -> bool {
    let name = expr.name().iter().filter_map(Node::as_str).next_back();
    expr.kind != A_Expr_Kind::AEXPR_OP
        || matches!(
            name,
            Some(
                "=" | "<>"
                    | "!="
                    | "<"
                    | "<="
                    | ">"
                    | ">="
                    | "~"
                    | "~*"
                    | "!~"
                    | "!~*"
                    | "~~"
                    | "!~~"
                    | "~~*"
                    | "!~~*"
                    | "@>"
                    | "<@"
                    | "?"
                    | "?|"
                    | "?&"
                    | "&&"
                    | "^@"
                    | "@@"
                    | "@?"
            )
        )
}

/// Whether the right operand is a pattern: not every text is one.
pub(super) fn is_pattern(expr: &A_Expr) -> bool {
    let name = expr.name().iter().filter_map(Node::as_str).next_back();
    matches!(
        expr.kind,
        A_Expr_Kind::AEXPR_LIKE | A_Expr_Kind::AEXPR_ILIKE | A_Expr_Kind::AEXPR_SIMILAR
    ) || matches!(name, Some("~" | "~*" | "!~" | "!~*" | "@@" | "@?"))
}

/// Whether an operator gives a value whatever its operands are.
pub(super) fn joins_values(expr: &A_Expr) -> bool {
    let name = expr.name().iter().filter_map(Node::as_str).next_back();
    if is_pattern(expr) {
        return matches!(expr.rexpr(), Node::A_Const(_) | Node::ParamRef(_));
    }
    matches!(name, Some("||" | "->" | "#>")) || compares(expr)
}
