//! Tables as they are made and altered: what their defaults, checks and partitions call and read.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{
    AlterTableStmt, Constraint, CreateStmt, PartitionBoundSpec, PartitionSpec, RangeVar,
};
use pg_raw_parse::raw::{AlterTableType, ObjectType};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level, Named};

impl Analyzer<'_> {
    /// An expression over the columns of one table (index, check, policy).
    pub(super) fn in_table(
        &mut self,
        range: Option<&RangeVar>,
        node: Node<'_>,
    ) -> Result<(), SqlRefusal> {
        let Some(range) = range else { return Ok(()) };
        if matches!(node, Node::None) {
            return Ok(());
        }
        self.levels.push(Level::default());
        if let Ok(Named::Known(relation)) = self.find(range) {
            let columns = self.relation_columns(relation.oid)?;
            let mut item = Item::new(Arc::clone(&relation.name), columns);
            item.relation = relation.oid;
            if let Some(level) = self.levels.last_mut() {
                level.items.push(item);
            }
        }
        self.predicate(node)?;
        self.levels.pop();
        Ok(())
    }

    pub(super) fn create_table(&mut self, create: &CreateStmt) -> Result<(), SqlRefusal> {
        self.new_relation("create", create.relation())?;
        for parent in create.inh_relations() {
            if let Node::RangeVar(parent) = parent {
                self.named_relation("alter", Some(parent), false)?;
            }
        }
        for element in create.table_elts() {
            self.spend(1)?;
            match element {
                Node::TableLikeClause(like) => {
                    self.named_relation("select", like.relation(), false)?;
                }
                Node::ColumnDef(column) => {
                    self.default_expression(column.raw_default())?;
                    for constraint in column.constraints() {
                        if let Node::Constraint(constraint) = constraint {
                            self.constraint(constraint)?;
                        }
                    }
                }
                Node::Constraint(constraint) => self.constraint(constraint)?,
                _ => {}
            }
        }
        self.partitioned(create.partspec())?;
        self.partition_bound(create.partbound())
    }

    /// A partition's key is computed for every later row, and its bounds at once.
    fn partitioned(&mut self, by: Option<&PartitionSpec>) -> Result<(), SqlRefusal> {
        for part in by.into_iter().flat_map(PartitionSpec::part_params) {
            self.default_expression(part.expr())?;
        }
        Ok(())
    }

    fn partition_bound(&mut self, bound: Option<&PartitionBoundSpec>) -> Result<(), SqlRefusal> {
        let Some(bound) = bound else { return Ok(()) };
        for value in bound.listdatums() {
            self.default_expression(value)?;
        }
        for end in bound.lowerdatums().iter().chain(bound.upperdatums()) {
            match end {
                Node::PartitionRangeDatum(datum) => self.default_expression(datum.value())?,
                value => self.default_expression(value)?,
            }
        }
        Ok(())
    }

    /// Functions in defaults and checks run with every later write: they are called.
    fn default_expression(&mut self, node: Node<'_>) -> Result<(), SqlRefusal> {
        if matches!(node, Node::None) {
            return Ok(());
        }
        // Columns of the table being made are not in the catalog yet.
        let mut item = Item::new("".into(), Vec::new());
        item.open = true;
        self.levels.push(Level {
            items: vec![item],
            ..Default::default()
        });
        self.predicate(node)?;
        self.levels.pop();
        Ok(())
    }

    fn constraint(&mut self, constraint: &Constraint) -> Result<(), SqlRefusal> {
        if let Some(parent) = constraint.pktable() {
            // REFERENCES probes the other table's keys; it may be made later in the same text.
            self.named_relation("select", Some(parent), true)?;
        }
        self.default_expression(constraint.raw_expr())
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) -> Result<(), SqlRefusal> {
        if alter.objtype == ObjectType::OBJECT_TYPE {
            return self.touch_database("alter");
        }
        self.named_relation("alter", alter.relation(), alter.missing_ok)?;
        for command in alter.cmds() {
            self.spend(1)?;
            let Node::AlterTableCmd(command) = command else {
                continue;
            };
            match command.def() {
                Node::Constraint(constraint) => self.constraint(constraint)?,
                Node::ColumnDef(column) => {
                    self.in_table(alter.relation(), column.raw_default())?;
                    for constraint in column.constraints() {
                        if let Node::Constraint(constraint) = constraint {
                            self.constraint(constraint)?;
                        }
                    }
                }
                Node::PartitionCmd(part) => {
                    self.named_relation("alter", part.name(), false)?;
                    self.partition_bound(part.bound())?;
                }
                Node::RangeVar(other) => self.named_relation("alter", Some(other), false)?,
                expression if command.subtype == AlterTableType::AT_ColumnDefault => {
                    self.default_expression(expression)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
