//! Settings: which one is meant, and what its change means for Weir.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{A_Expr, SelectStmt};
use pg_raw_parse::raw::{A_Expr_Kind, BoolExprType};

use super::SqlRefusal;
use super::analyzer::{Analyzer, effective_path};
use super::expr::constant_text;
use super::functions;

/// Whether the server means UTF-8 by that name of an encoding (`pg_char_to_encoding`): it looks at
/// letters and digits only.
pub(crate) fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    matches!(plain.as_str(), "utf8" | "unicode")
}

/// `text` of pg_type.dat.
const TEXT_OID: u32 = 25;

impl Analyzer<'_> {
    /// Records that a setting is changed.
    pub(super) fn set_setting(&mut self, setting: &str) -> Result<(), SqlRefusal> {
        let setting = setting.to_lowercase();
        self.pins |= functions::is_pinned(&setting);
        self.writable |= matches!(
            setting.as_str(),
            "transaction_read_only" | "default_transaction_read_only"
        );
        match setting.as_str() {
            "role" | "session_authorization" => {
                self.touch_object("setRole", "Role", &["?"])?;
            }
            _ => self.touch_object("set", "Setting", &[&setting])?,
        }
        self.settings.push(Arc::from(setting));
        Ok(())
    }

    /// `set_config` is told the name of a setting when it runs: the pinned ones may be meant, too. The value
    /// of a parameter is seen before.
    pub(super) fn set_some_setting(&mut self, name: Option<Node<'_>>) -> Result<(), SqlRefusal> {
        self.touch_object("set", "Setting", &["?"])?;
        // A cast to text of somebody's own could make another name of the value.
        let own_casts = !self.catalog().cast_functions(TEXT_OID).is_empty();
        match name {
            Some(Node::ParamRef(parameter)) if !own_casts && self.arguments.is_none() => {
                let number = u16::try_from(parameter.number).unwrap_or(0);
                self.setting_parameters.insert(number);
                self.settings.extend(["search_path", "role"].map(Arc::from));
            }
            _ => self.pins = true,
        }
        Ok(())
    }

    /// The setting that `set_config` is told: a constant, or the name in the one row of `pg_settings`
    /// that the query asks for, as `pg_dump` does to set what an older server may not have.
    pub(super) fn setting_named(&self, argument: Option<Node<'_>>) -> Option<String> {
        let argument = argument?;
        if is_name(argument) {
            return self.levels.last()?.setting.clone();
        }
        constant_text(argument)
    }

    /// `… from pg_settings where name = 'constant'`, and nothing else in FROM.
    pub(super) fn note_setting(&mut self, select: &SelectStmt) {
        // Another schema before `pg_catalog` may have an operator of its own.
        let first = effective_path(self.names).find(|schema| !schema.starts_with("pg_temp_"));
        let setting = named_by(select.where_clause());
        let Some(level) = self.levels.last() else {
            return;
        };
        let [item] = &level.items[..] else {
            return;
        };
        let relation = self.catalog().relation(item.relation);
        let settings = relation.is_some_and(|relation| {
            (&*relation.schema, &*relation.name) == ("pg_catalog", "pg_settings")
        });
        if settings
            && first == Some("pg_catalog")
            && let Some(level) = self.levels.last_mut()
        {
            level.setting = setting;
        }
    }
}

fn named_by(node: Node<'_>) -> Option<String> {
    match node {
        Node::BoolExpr(both) if both.boolop == BoolExprType::AND_EXPR => {
            both.args().iter().find_map(named_by)
        }
        Node::A_Expr(expr) if is_equality(expr) => {
            let sides = [(expr.lexpr(), expr.rexpr()), (expr.rexpr(), expr.lexpr())];
            sides
                .into_iter()
                .find_map(|(name, value)| is_name(name).then(|| constant_text(value)).flatten())
        }
        _ => None,
    }
}

fn is_equality(expr: &A_Expr) -> bool {
    let name = expr.name();
    expr.kind == A_Expr_Kind::AEXPR_OP
        && name.len() == 1
        && name.first().and_then(Node::as_str) == Some("=")
}

/// A column `name`, qualified or not.
fn is_name(node: Node<'_>) -> bool {
    match node {
        Node::ColumnRef(column) => {
            column.fields().iter().filter_map(Node::as_str).next_back() == Some("name")
        }
        _ => false,
    }
}
