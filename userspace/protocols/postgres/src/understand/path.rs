//! Names without a schema behind a statement of the same text that may have changed `search_path`.
//!
//! The server cannot be asked in the middle of a text. Which of the schemas in reach it would search
//! first, and which the role may use at all, is not known: a name is understood when only one relation
//! in reach has it, whatever the order, and a new object has to be permitted in each schema where it
//! may come to be.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{RangeVar, VariableSetStmt};
use pg_raw_parse::raw::{TransactionStmtKind, VariableSetKind};

use super::analyzer::{Analyzer, Named, effective_path};
use super::expr::constant_text;
use super::{NameScope, SqlRefusal};
use crate::objects::NAME_BYTES_MAX;

/// What is known of `search_path` where a statement begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Path {
    /// It is the session's.
    #[default]
    Known,
    /// It is the session's, but what a name is first on it may be gone: an earlier statement dropped,
    /// renamed or moved something, ended a transaction that had made it, or set a role that may not use
    /// all of its schemas.
    Removed,
    /// These schemas, of which some may not be there or not be usable.
    Listed(Vec<Arc<str>>),
    /// Any.
    Unknown,
}

impl Path {
    pub(super) const fn is_known(&self) -> bool {
        matches!(self, Self::Known)
    }
}

/// The path that `SET search_path = constant, …` sets.
pub(super) fn listed(set: &VariableSetStmt) -> Option<Path> {
    let is_path = set.name().unwrap_or_default().to_lowercase() == "search_path";
    if !is_path || set.kind != VariableSetKind::VAR_SET_VALUE {
        return None;
    }
    let mut schemas = Vec::new();
    for value in set.args() {
        let schema = constant_text(value)?;
        if schema == "$user" {
            // An earlier statement may have changed the role.
            return None;
        }
        if schema.len() > NAME_BYTES_MAX {
            // The server cuts it.
            return None;
        }
        schemas.push(Arc::from(schema));
    }
    Some(Path::Listed(schemas))
}

/// Whether a statement sets a role after which no schema is named: "$user" stands for none then. Which
/// schemas of the path it may use is another matter.
pub(super) fn has_no_schema(node: Node<'_>, scope: &NameScope<'_>) -> bool {
    let Node::VariableSetStmt(set) = node else {
        return false;
    };
    let role = set.args().first().and_then(constant_text);
    set.kind == VariableSetKind::VAR_SET_VALUE
        && role.is_some_and(|role| role != "none" && !scope.catalog.has_schema(&role))
}

/// Whether a statement may take something away that a name meant.
pub(super) fn removes(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::DropStmt(_)
            | Node::DropOwnedStmt(_)
            | Node::RenameStmt(_)
            | Node::AlterObjectSchemaStmt(_)
    ) || matches!(node, Node::TransactionStmt(transaction) if !matches!(
        transaction.kind,
        TransactionStmtKind::TRANS_STMT_BEGIN
            | TransactionStmtKind::TRANS_STMT_START
            | TransactionStmtKind::TRANS_STMT_SAVEPOINT
            | TransactionStmtKind::TRANS_STMT_RELEASE
    ))
}

fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_")
}

impl<'a> Analyzer<'a> {
    /// Whether a name without a schema may be one of that schema.
    fn in_reach(&self, schema: &str) -> bool {
        match &self.path {
            Path::Listed(listed) => {
                schema == "pg_catalog"
                    || is_temporary(schema)
                    || listed.iter().any(|one| **one == *schema)
            }
            Path::Removed => {
                is_temporary(schema) || effective_path(self.names).any(|one| one == schema)
            }
            Path::Known | Path::Unknown => true,
        }
    }

    /// The relation of that name if no other in reach has it.
    pub(super) fn find_in_reach(&self, name: &str) -> Result<Named<'a>, SqlRefusal> {
        let known: Vec<_> = self
            .catalog()
            .relations_named(name)
            .filter(|relation| self.in_reach(&relation.schema))
            .collect();
        let made: Vec<&str> = self
            .created
            .iter()
            .filter_map(|key| key.split_once('\0'))
            .filter(|(schema, made)| {
                *made == name
                    && self.in_reach(schema)
                    && !known.iter().any(|relation| *relation.schema == **schema)
            })
            .map(|(schema, _)| schema)
            .collect();
        match (&known[..], &made[..]) {
            ([relation], []) => Ok(Named::Known(relation)),
            ([], [schema]) => Ok(Named::Created(self.object("Table", &[schema, name]))),
            ([], []) => Err(SqlRefusal::UnknownRelation(name.to_owned())),
            _ => Err(SqlRefusal::Unsupported(
                "a name without its schema, which several have, after search_path may have changed \
                 in the same text",
            )),
        }
    }

    /// Where a new object without a schema may come to be, the likeliest first.
    pub(super) fn creation_schemas(&self) -> Vec<&str> {
        let found: Vec<&str> = match &self.path {
            Path::Known | Path::Removed => Vec::new(),
            Path::Listed(listed) => {
                let there = |schema: &&str| self.catalog().has_schema(schema);
                let (mut first, absent): (Vec<&str>, Vec<&str>) =
                    listed.iter().map(|schema| &**schema).partition(there);
                // One that this text makes, or that is made meanwhile.
                first.extend(absent);
                first
            }
            Path::Unknown => {
                let made = self.created.iter().filter_map(|key| key.strip_suffix('\0'));
                let there = self
                    .catalog()
                    .schemas()
                    .filter(|schema| !schema.starts_with("pg_") && *schema != "information_schema");
                std::iter::once(self.creation_schema())
                    .chain(there)
                    .chain(made)
                    .collect()
            }
        };
        if found.is_empty() {
            return vec![self.creation_schema()];
        }
        found
    }

    /// The schemas that a new relation may come to be in; `pg_temp` for temporary ones.
    pub(super) fn new_schemas<'r>(&'r self, range: &'r RangeVar) -> Vec<&'r str> {
        let temporary = u8::try_from(range.relpersistence).is_ok_and(|kind| kind == b't');
        match (range.schemaname(), &self.making) {
            (Some(schema), _) => vec![schema],
            (None, _) if temporary => vec!["pg_temp"],
            (None, Some((schema, _))) => vec![schema],
            (None, None) => self.creation_schemas(),
        }
    }
}
