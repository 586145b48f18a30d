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
use super::tree;

/// Nodes that are looked through for a query; more of them count as one.
const NODES_MAX: usize = 2_000;

/// Built-in functions that give a value for every argument, or fail for none that can be chosen.
const TOTAL: &[&str] = &[
    "array_agg",
    "array_append",
    "array_length",
    "array_to_json",
    "array_to_string",
    "avg",
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
    "replace",
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
    "sum",
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
                    let name = parts.last().copied().unwrap_or_default();
                    let known = self.catalog().functions(name);
                    if known.is_empty() || known.iter().any(|one| &*one.schema != "pg_catalog") {
                        return Ok(true);
                    }
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

/// Whether an operator gives a value whatever its operands are.
pub(super) fn joins_values(expr: &A_Expr) -> bool {
    let name = expr.name().iter().filter_map(Node::as_str).next_back();
    // A pattern may be none, and only one that is written out is the same for all.
    let pattern = matches!(
        expr.kind,
        A_Expr_Kind::AEXPR_LIKE | A_Expr_Kind::AEXPR_ILIKE | A_Expr_Kind::AEXPR_SIMILAR
    ) || matches!(name, Some("~" | "~*" | "!~" | "!~*" | "@@" | "@?"));
    if pattern {
        return matches!(expr.rexpr(), Node::A_Const(_) | Node::ParamRef(_));
    }
    matches!(name, Some("||" | "->" | "->>" | "#>" | "#>>")) || compares(expr)
}
