//! Statements after which a rule no longer finds what it names.
//!
//! Rules name columns by schema, table and column. Whoever renames or moves one takes its values to
//! where no rule may reach, so that has to be something that could be read as it is. The same holds for
//! a partition that leaves its table, whose rules hold for it only as long as it is there, and for a
//! column that is no longer computed from others.

use pg_raw_parse::nodes::{AlterTableCmd, AlterTableStmt, RangeVar, RenameStmt};
use pg_raw_parse::raw::{AlterTableType, DropBehavior, ObjectType};
use pg_raw_parse::{Node, nodes::AlterObjectSchemaStmt};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Named, Touched};
use super::flow::{ColumnId, Flow};
use crate::catalog::Relation;

impl<'a> Analyzer<'a> {
    /// `ALTER … RENAME`.
    pub(super) fn renamed(&mut self, rename: &RenameStmt) -> Result<(), SqlRefusal> {
        let name = rename.subname().unwrap_or_default();
        match rename.rename_type {
            ObjectType::OBJECT_COLUMN => {
                let Some(relation) = self.known(rename.relation()) else {
                    return Ok(());
                };
                self.carried_off(relation, Some(name))?;
                // It is renamed in those below, too.
                for heir in self.relatives(relation)? {
                    self.carried_off(heir, Some(name))?;
                }
                Ok(())
            }
            // Tables of the type follow with CASCADE.
            ObjectType::OBJECT_ATTRIBUTE if rename.behavior == DropBehavior::DROP_CASCADE => {
                let all: Vec<&Relation> = self.catalog().relations().collect();
                for relation in all {
                    self.carried_off(relation, Some(name))?;
                }
                Ok(())
            }
            ObjectType::OBJECT_SCHEMA => {
                let all: Vec<&Relation> = self.catalog().relations().collect();
                for relation in all.into_iter().filter(|relation| &*relation.schema == name) {
                    self.carried_off(relation, None)?;
                }
                Ok(())
            }
            ObjectType::OBJECT_DATABASE => self.copied_database(),
            kind if has_columns(kind) => self.moved_relation(rename.relation()),
            _ => Ok(()),
        }
    }

    /// `ALTER … SET SCHEMA`.
    pub(super) fn moved(&mut self, moved: &AlterObjectSchemaStmt) -> Result<(), SqlRefusal> {
        if has_columns(moved.object_type) {
            return self.moved_relation(moved.relation());
        }
        Ok(())
    }

    /// What a clause of ALTER TABLE takes from under the rules for it.
    pub(super) fn released(
        &mut self,
        alter: &AlterTableStmt,
        command: &AlterTableCmd,
    ) -> Result<(), SqlRefusal> {
        let whose = match (command.subtype, command.def()) {
            // Rows of a partition are read by its parent's name, too.
            (AlterTableType::AT_AttachPartition, Node::PartitionCmd(part)) => {
                self.known(part.name())
            }
            (AlterTableType::AT_DetachPartition, _) => self.known(alter.relation()),
            // Of heirs it stays, without what the parent's rules say of it.
            (AlterTableType::AT_DropColumn, _) => {
                let relation = self.known(alter.relation());
                if let Some(relation) = relation.filter(|relation| !relation.heirs.is_empty()) {
                    self.carried_off(relation, command.name())?;
                }
                return Ok(());
            }
            (AlterTableType::AT_DropInherit, Node::RangeVar(parent)) => self.known(Some(parent)),
            (AlterTableType::AT_DropExpression, _) => {
                let Some(relation) = self.known(alter.relation()) else {
                    return Ok(());
                };
                let name = command.name().unwrap_or_default();
                let computed = relation.column(name).into_iter();
                let sources: Vec<_> = computed
                    .flat_map(|column| column.computed_from.iter())
                    .map(|attnum| ColumnId {
                        relation: relation.oid,
                        attnum: *attnum,
                    })
                    .collect();
                for id in sources {
                    self.flow_into(&Flow::one(id).derived(), None)?;
                }
                return Ok(());
            }
            _ => None,
        };
        let Some(whose) = whose else { return Ok(()) };
        self.carried_off(whose, None)?;
        for relative in self.relatives(whose)? {
            self.carried_off(relative, None)?;
        }
        Ok(())
    }

    fn moved_relation(&mut self, range: Option<&RangeVar>) -> Result<(), SqlRefusal> {
        let Some(relation) = self.known(range) else {
            return Ok(());
        };
        // Nor is it found by those that keep it from being read at all.
        self.touch_relation("select", relation)?;
        for column in self.columns_of_any(relation)? {
            self.flow_into(&column.flow, None)?;
        }
        self.carried_off(relation, None)
    }

    /// Every column of this database, under the name of another one.
    pub(super) fn copied_database(&mut self) -> Result<(), SqlRefusal> {
        let all: Vec<&Relation> = self.catalog().relations().collect();
        for relation in all {
            if !matches!(&*relation.schema, "pg_catalog" | "information_schema") {
                self.carried_off(relation, None)?;
            }
        }
        Ok(())
    }

    /// The values of a relation's column, or of all of them, are read and written elsewhere.
    fn carried_off(&mut self, relation: &Relation, only: Option<&str>) -> Result<(), SqlRefusal> {
        self.spend(1)?;
        let named = |name: &str| only.is_none_or(|only| only == name);
        for column in relation.columns.iter().filter(|column| named(&column.name)) {
            let id = ColumnId {
                relation: relation.oid,
                attnum: column.attnum,
            };
            self.touch("readColumn", Touched::Column(id))?;
            self.diverted.insert(id);
        }
        Ok(())
    }

    fn known(&mut self, range: Option<&RangeVar>) -> Option<&'a Relation> {
        match self.find(range?).ok()? {
            Named::Known(relation) => Some(relation),
            Named::Created(_) => None,
        }
    }
}

fn has_columns(kind: ObjectType::Type) -> bool {
    matches!(
        kind,
        ObjectType::OBJECT_TABLE
            | ObjectType::OBJECT_FOREIGN_TABLE
            | ObjectType::OBJECT_VIEW
            | ObjectType::OBJECT_MATVIEW
            // The server takes the names of tables there as well.
            | ObjectType::OBJECT_INDEX
            | ObjectType::OBJECT_SEQUENCE
    )
}
