//! The name that the server gives to a result column without an alias (`FigureColname`).

use pg_raw_parse::Node;
use pg_raw_parse::raw::{
    A_Expr_Kind, JsonExprOp, MinMaxOp, SQLValueFunctionOp, SubLinkType, XmlExprOp,
};

/// The name of an expression's column.
pub(super) fn column_name(node: Node<'_>) -> &str {
    let mut fallback = None;
    let mut node = node;
    // Each step goes one level down, so the tree's depth bounds it.
    loop {
        match step(node) {
            Step::Name(name) => return name,
            Step::Down { to, otherwise } => {
                // The outermost cast or CASE names the column when nothing stronger is below.
                if fallback.is_none() {
                    fallback = otherwise;
                }
                node = to;
            }
            Step::Nothing => return fallback.unwrap_or("?column?"),
        }
    }
}

enum Step<'a> {
    Name(&'a str),
    Down {
        to: Node<'a>,
        otherwise: Option<&'a str>,
    },
    Nothing,
}

fn step(node: Node<'_>) -> Step<'_> {
    match node {
        Node::ColumnRef(column) => last_string(column.fields()).map_or(Step::Nothing, Step::Name),
        Node::A_Indirection(part) => match last_string(part.indirection()) {
            Some(name) => Step::Name(name),
            None => Step::Down {
                to: part.arg(),
                otherwise: None,
            },
        },
        Node::FuncCall(call) => last_string(call.funcname()).map_or(Step::Nothing, Step::Name),
        Node::A_Expr(expr) if expr.kind == A_Expr_Kind::AEXPR_NULLIF => Step::Name("nullif"),
        Node::TypeCast(cast) => Step::Down {
            to: cast.arg(),
            otherwise: cast
                .type_name()
                .and_then(|name| name.names().iter().next_back())
                .and_then(|name| name.sval()),
        },
        Node::CollateClause(clause) => Step::Down {
            to: clause.arg(),
            otherwise: None,
        },
        Node::GroupingFunc(_) => Step::Name("grouping"),
        Node::MergeSupportFunc(_) => Step::Name("merge_action"),
        Node::SubLink(link) => sub_link(link),
        Node::CaseExpr(case) => Step::Down {
            to: case.defresult(),
            otherwise: Some("case"),
        },
        Node::A_ArrayExpr(_) => Step::Name("array"),
        Node::RowExpr(_) => Step::Name("row"),
        Node::CoalesceExpr(_) => Step::Name("coalesce"),
        Node::MinMaxExpr(expr) => Step::Name(if expr.op == MinMaxOp::IS_GREATEST {
            "greatest"
        } else {
            "least"
        }),
        Node::SQLValueFunction(function) => {
            sql_value(function.op).map_or(Step::Nothing, Step::Name)
        }
        Node::XmlExpr(expr) => xml(expr.op).map_or(Step::Nothing, Step::Name),
        Node::XmlSerialize(_) => Step::Name("xmlserialize"),
        Node::JsonParseExpr(_) => Step::Name("json"),
        Node::JsonScalarExpr(_) => Step::Name("json_scalar"),
        Node::JsonSerializeExpr(_) => Step::Name("json_serialize"),
        Node::JsonObjectConstructor(_) => Step::Name("json_object"),
        Node::JsonArrayConstructor(_) | Node::JsonArrayQueryConstructor(_) => {
            Step::Name("json_array")
        }
        Node::JsonObjectAgg(_) => Step::Name("json_objectagg"),
        Node::JsonArrayAgg(_) => Step::Name("json_arrayagg"),
        Node::JsonFuncExpr(expr) => match expr.op {
            JsonExprOp::JSON_EXISTS_OP => Step::Name("json_exists"),
            JsonExprOp::JSON_QUERY_OP => Step::Name("json_query"),
            JsonExprOp::JSON_VALUE_OP => Step::Name("json_value"),
            _ => Step::Nothing,
        },
        _ => Step::Nothing,
    }
}

fn last_string(list: &pg_raw_parse::list::NodeList) -> Option<&str> {
    list.iter().filter_map(Node::as_str).next_back()
}

fn sub_link(link: &pg_raw_parse::nodes::SubLink) -> Step<'_> {
    match link.sub_link_type {
        SubLinkType::EXISTS_SUBLINK => Step::Name("exists"),
        SubLinkType::ARRAY_SUBLINK => Step::Name("array"),
        SubLinkType::EXPR_SUBLINK => {
            let Node::SelectStmt(mut select) = link.subselect() else {
                return Step::Nothing;
            };
            while let Some(left) = select.larg() {
                select = left;
            }
            if !select.values_lists().is_empty() {
                return Step::Name("column1");
            }
            match select.target_list().first() {
                Some(target) => match target.name() {
                    Some(name) => Step::Name(name),
                    None => Step::Down {
                        to: target.val(),
                        otherwise: None,
                    },
                },
                None => Step::Nothing,
            }
        }
        _ => Step::Nothing,
    }
}

fn sql_value(op: u32) -> Option<&'static str> {
    Some(match op {
        SQLValueFunctionOp::SVFOP_CURRENT_DATE => "current_date",
        SQLValueFunctionOp::SVFOP_CURRENT_TIME | SQLValueFunctionOp::SVFOP_CURRENT_TIME_N => {
            "current_time"
        }
        SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP
        | SQLValueFunctionOp::SVFOP_CURRENT_TIMESTAMP_N => "current_timestamp",
        SQLValueFunctionOp::SVFOP_LOCALTIME | SQLValueFunctionOp::SVFOP_LOCALTIME_N => "localtime",
        SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP | SQLValueFunctionOp::SVFOP_LOCALTIMESTAMP_N => {
            "localtimestamp"
        }
        SQLValueFunctionOp::SVFOP_CURRENT_ROLE => "current_role",
        SQLValueFunctionOp::SVFOP_CURRENT_USER => "current_user",
        SQLValueFunctionOp::SVFOP_USER => "user",
        SQLValueFunctionOp::SVFOP_SESSION_USER => "session_user",
        SQLValueFunctionOp::SVFOP_CURRENT_CATALOG => "current_catalog",
        SQLValueFunctionOp::SVFOP_CURRENT_SCHEMA => "current_schema",
        _ => return None,
    })
}

fn xml(op: u32) -> Option<&'static str> {
    Some(match op {
        XmlExprOp::IS_XMLCONCAT => "xmlconcat",
        XmlExprOp::IS_XMLELEMENT => "xmlelement",
        XmlExprOp::IS_XMLFOREST => "xmlforest",
        XmlExprOp::IS_XMLPARSE => "xmlparse",
        XmlExprOp::IS_XMLPI => "xmlpi",
        XmlExprOp::IS_XMLROOT => "xmlroot",
        XmlExprOp::IS_XMLSERIALIZE => "xmlserialize",
        _ => return None,
    })
}
