//! Operations that fail, or take their time, for some values and not for others.
//!
//! Whether a statement fails is an answer that no mask hides: `1 / (case when ssn < 'k' then 0 else 1
//! end)` asks about `ssn` as a WHERE does. So what such an operation works on counts as a predicate. A
//! base column as it stands, in a cast or a call, does not: that asks one fixed question.

use pg_raw_parse::nodes::{A_Expr, FuncCall, TypeCast};
use pg_raw_parse::{ConstValue, Node};

use super::SqlRefusal;
use super::analyzer::Analyzer;

/// Types that every value can be cast to, by the name that the grammar gives them.
const TOTAL_TYPES: &[&str] = &[
    "text",
    "varchar",
    "bpchar",
    "char",
    "name",
    "bytea",
    "refcursor",
];

/// Built-in functions that fail for some arguments.
const PARTIAL: &[&str] = &[
    "chr",
    "convert_from",
    "decode",
    "exp",
    "factorial",
    "json",
    "jsonb_path_exists",
    "jsonb_path_match",
    "jsonb_path_query",
    "ln",
    "log",
    "log10",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "numrange",
    "int4range",
    "int8range",
    "daterange",
    "tsrange",
    "tstzrange",
    "parse_ident",
    "pg_size_bytes",
    "sqrt",
    "to_date",
    "to_number",
    "to_regclass",
    "to_timestamp",
    "xmlparse",
    "xpath",
];

/// Of these, the other arguments choose for which values they fail or how long they take.
const CHOOSABLE: &[&str] = &[
    "div",
    "gcd",
    "get_bit",
    "get_byte",
    "lcm",
    "lpad",
    "mod",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pow",
    "power",
    "repeat",
    "rpad",
    "set_bit",
    "set_byte",
    "setseed",
    "width_bucket",
];

/// A number that is added or multiplied and is larger than this chooses where a result overflows.
const LITERAL_MAX: f64 = 1000.0;

impl Analyzer<'_> {
    /// Whether an operator may fail by its values.
    pub(super) fn operator_is_partial(&self, expr: &A_Expr) -> bool {
        let name = expr.name().iter().filter_map(Node::as_str).next_back();
        let literals = [number(expr.lexpr()), number(expr.rexpr())];
        match name {
            Some("/" | "%") if is_parameter(expr.rexpr()) => true,
            Some("*") if [expr.lexpr(), expr.rexpr()].into_iter().any(multiplies) => true,
            Some("/" | "%") => !literals[1].is_some_and(|divisor| divisor != 0.0),
            Some("^" | "|/" | "||/" | "!" | "<<" | ">>") => true,
            Some("+" | "-" | "*") => literals
                .into_iter()
                .flatten()
                .any(|literal| literal.abs() > LITERAL_MAX),
            Some(_) | None => false,
        }
    }

    /// Whether a call may fail by its arguments.
    pub(super) fn call_is_partial(
        &mut self,
        call: &FuncCall,
        name: &str,
    ) -> Result<bool, SqlRefusal> {
        if matches!(name, "lpad" | "rpad" | "repeat") {
            // A length that is written out says nothing.
            let literal = call
                .args()
                .get(1)
                .is_some_and(|length| number(length).is_some() && !is_parameter(length));
            return Ok(!literal);
        }
        if CHOOSABLE.contains(&name) {
            return Ok(true);
        }
        if !PARTIAL.contains(&name) {
            return Ok(false);
        }
        for argument in call.args() {
            if !self.is_fixed(argument)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a cast may fail by its value.
    pub(super) fn cast_is_partial(&mut self, cast: &TypeCast) -> Result<bool, SqlRefusal> {
        if is_total_type(cast) {
            return Ok(false);
        }
        // What it checks, or which values it has, was chosen by whoever made it.
        let own = type_name(cast).is_some_and(|name| self.is_own_type(name));
        Ok(own || !self.is_fixed(cast.arg())?)
    }

    /// Whether a type is not the server's own, or not known.
    pub(super) fn is_own_type(&self, name: &str) -> bool {
        let mut types = self.catalog().types_named(name);
        types.any(|known| &*known.schema != "pg_catalog") || !self.catalog().has_type_named(name)
    }

    /// A literal, a parameter, or a base column as it stands.
    fn is_fixed(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        let mut node = node;
        while let Node::TypeCast(cast) = node {
            self.spend(1)?;
            node = cast.arg();
        }
        match node {
            Node::A_Const(_) => Ok(true),
            // Of a function it is what the call gives it.
            Node::ParamRef(_) => Ok(self.arguments.is_none()),
            Node::ColumnRef(column) => Ok(self.column(column)?.plain.is_some()),
            Node::A_ArrayExpr(array) => Ok(array
                .elements()
                .iter()
                .all(|element| matches!(element, Node::A_Const(_)))),
            _ => Ok(false),
        }
    }
}

fn type_name(cast: &TypeCast) -> Option<&str> {
    let names = cast.type_name().map(|name| name.names());
    names?.iter().next_back()?.sval()
}

/// Whether the type takes every value.
pub(super) fn is_total_type(cast: &TypeCast) -> bool {
    type_name(cast).is_some_and(|name| TOTAL_TYPES.contains(&name))
}

fn is_parameter(node: Node<'_>) -> bool {
    let mut node = node;
    while let Node::TypeCast(cast) = node {
        node = cast.arg();
    }
    matches!(node, Node::ParamRef(_))
}

/// Factors of a chain are as large together as one large one.
fn multiplies(node: Node<'_>) -> bool {
    let Node::A_Expr(expr) = node else {
        return false;
    };
    expr.name().iter().filter_map(Node::as_str).next_back() == Some("*")
}

/// A literal number; a parameter may be any.
fn number(node: Node<'_>) -> Option<f64> {
    let mut node = node;
    while let Node::TypeCast(cast) = node {
        node = cast.arg();
    }
    if matches!(node, Node::ParamRef(_)) {
        return Some(f64::MAX);
    }
    let Node::A_Const(constant) = node else {
        return None;
    };
    match constant.val()? {
        ConstValue::Integer(number) => Some(f64::from(number)),
        ConstValue::Float(text) | ConstValue::String(text) => text.parse().ok(),
        _ => None,
    }
}
