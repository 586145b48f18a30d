//! Tables as they are made and altered: what their defaults, checks and partitions call and read.

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{
    AlterTableStmt, Constraint, CreateDomainStmt, CreateStmt, IndexStmt, PartitionBoundSpec,
    PartitionSpec, RangeVar,
};
use pg_raw_parse::raw::{AlterTableType, ConstrType, ObjectType};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level, Named};
use super::flow::{ColumnId, Flow};

impl Analyzer<'_> {
    /// An expression over the columns of one table (index, check, policy), and what flows into it.
    pub(super) fn in_table(
        &mut self,
        range: Option<&RangeVar>,
        node: Node<'_>,
    ) -> Result<Flow, SqlRefusal> {
        let (Some(range), false) = (range, matches!(node, Node::None)) else {
            return Ok(Flow::default());
        };
        let mut item = Item::new(range.relname().unwrap_or_default().into(), Vec::new());
        match self.find(range) {
            Ok(Named::Known(relation)) => {
                item.columns = self.columns_of_any(relation)?;
                item.relation = relation.oid;
                item = self.loosened(item, relation);
            }
            Ok(Named::Created(_)) | Err(_) => item.open = true,
        }
        self.levels.push(Level {
            items: vec![item],
            ..Default::default()
        });
        let flow = self.predicate(node)?;
        self.levels.pop();
        Ok(flow)
    }

    pub(super) fn create_table(&mut self, create: &CreateStmt) -> Result<(), SqlRefusal> {
        self.new_relation("create", create.relation())?;
        let table = &new_table(create.relation());
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
                    self.default_expression(table, column.raw_default())?;
                    for constraint in column.constraints() {
                        if let Node::Constraint(constraint) = constraint {
                            self.constraint(table, constraint)?;
                        }
                    }
                }
                Node::Constraint(constraint) => self.constraint(table, constraint)?,
                _ => {}
            }
        }
        self.partitioned(table, create.partspec())?;
        self.partition_bound(create.partbound())
    }

    /// A partition's key is computed for every later row, and its bounds at once.
    fn partitioned(&mut self, table: &Item, by: Option<&PartitionSpec>) -> Result<(), SqlRefusal> {
        for part in by.into_iter().flat_map(PartitionSpec::part_params) {
            self.table_expression(table, part.expr())?;
        }
        Ok(())
    }

    fn partition_bound(&mut self, bound: Option<&PartitionBoundSpec>) -> Result<(), SqlRefusal> {
        let Some(bound) = bound else { return Ok(()) };
        for value in bound.listdatums() {
            self.default_expression(&new_table(None), value)?;
        }
        for end in bound.lowerdatums().iter().chain(bound.upperdatums()) {
            match end {
                Node::PartitionRangeDatum(datum) => {
                    self.default_expression(&new_table(None), datum.value())?;
                }
                value => self.default_expression(&new_table(None), value)?,
            }
        }
        Ok(())
    }

    /// Functions in defaults and checks run with every later write: they are called.
    fn table_expression(&mut self, table: &Item, node: Node<'_>) -> Result<(), SqlRefusal> {
        if matches!(node, Node::None) {
            return Ok(());
        }
        self.levels.push(Level {
            items: vec![table.clone()],
            ..Default::default()
        });
        self.predicate(node)?;
        self.levels.pop();
        Ok(())
    }

    /// No server takes a column in a default or a bound, so one that is not known is left to it.
    pub(super) fn default_expression(
        &mut self,
        table: &Item,
        node: Node<'_>,
    ) -> Result<(), SqlRefusal> {
        let (levels, nesting) = (self.levels.len(), self.nesting);
        match self.table_expression(table, node) {
            Err(SqlRefusal::UnknownColumn(_)) => {
                self.levels.truncate(levels);
                self.nesting = nesting;
                Ok(())
            }
            done => done,
        }
    }

    fn constraint(&mut self, table: &Item, constraint: &Constraint) -> Result<(), SqlRefusal> {
        if let Some(parent) = constraint.pktable() {
            // REFERENCES probes the other table's keys; it may be made later in the same text.
            self.named_relation("select", Some(parent), true)?;
            let referenced = self.table_item(Some(parent))?;
            for name in constraint.pk_attrs() {
                self.compared(&referenced, name.as_str())?;
            }
        }
        if constraint.contype == ConstrType::CONSTR_DEFAULT {
            return self.default_expression(table, constraint.raw_expr());
        }
        // That the rows there are keep it is an answer about them.
        for name in constraint.keys().iter().chain(constraint.fk_attrs()) {
            self.compared(table, name.as_str())?;
        }
        for part in constraint.exclusions() {
            let parts = match part {
                Node::NodeList(parts) => parts.iter().collect(),
                part => vec![part],
            };
            for part in parts {
                if let Node::IndexElem(element) = part {
                    self.compared(table, element.name())?;
                    self.table_expression(table, element.expr())?;
                }
            }
        }
        self.table_expression(table, constraint.where_clause())?;
        self.table_expression(table, constraint.raw_expr())
    }

    /// The default of a function's parameter, or of a domain.
    pub(super) fn default_of(&mut self, node: Node<'_>) -> Result<(), SqlRefusal> {
        self.default_expression(&new_table(None), node)
    }

    /// What a domain checks, with `VALUE`, and its default.
    pub(super) fn domain_constraints(
        &mut self,
        create: &CreateDomainStmt,
    ) -> Result<(), SqlRefusal> {
        for constraint in create.constraints() {
            self.constraint(&new_table(None), constraint)?;
        }
        Ok(())
    }

    /// A condition, or a default, that a domain gets later.
    pub(super) fn domain_definition(&mut self, node: Node<'_>) -> Result<(), SqlRefusal> {
        match node {
            Node::Constraint(constraint) => self.constraint(&new_table(None), constraint),
            node => self.default_of(node),
        }
    }

    /// Rows are compared by a column of the table.
    fn compared(&mut self, table: &Item, name: Option<&str>) -> Result<(), SqlRefusal> {
        let mut columns = table.columns.iter();
        match columns.find(|column| Some(&*column.name) == name) {
            Some(column) => self.touch_flow("usePredicate", &column.flow),
            None => Ok(()),
        }
    }

    /// CREATE INDEX; a unique one compares the rows that are there.
    pub(super) fn create_index(&mut self, index: &IndexStmt) -> Result<(), SqlRefusal> {
        self.named_relation("alter", index.relation(), false)?;
        let table = self.table_item(index.relation())?;
        for parameter in index.index_params() {
            if index.unique {
                self.compared(&table, parameter.name())?;
            }
            self.in_table(index.relation(), parameter.expr())?;
        }
        self.in_table(index.relation(), index.where_clause())?;
        Ok(())
    }

    /// What is known of a table's columns; any other name may be one that the statement adds.
    fn table_item(&mut self, range: Option<&RangeVar>) -> Result<Item, SqlRefusal> {
        let mut item = new_table(range);
        if let Some(Ok(Named::Known(relation))) = range.map(|range| self.find(range)) {
            item.columns = self.columns_of_any(relation)?;
            item.relation = relation.oid;
            item = self.loosened(item, relation);
        }
        Ok(item)
    }

    fn altered_column(&mut self, range: Option<&RangeVar>, name: Option<&str>) -> Option<ColumnId> {
        match self.find(range?).ok()? {
            Named::Known(relation) if !self.is_altered(relation) => Some(ColumnId {
                relation: relation.oid,
                attnum: relation.column(name?)?.attnum,
            }),
            Named::Known(_) | Named::Created(_) => None,
        }
    }

    pub(super) fn alter_table(&mut self, alter: &AlterTableStmt) -> Result<(), SqlRefusal> {
        if alter.objtype == ObjectType::OBJECT_TYPE {
            return self.touch_database("alter");
        }
        self.named_relation("alter", alter.relation(), alter.missing_ok)?;
        let table = &self.table_item(alter.relation())?;
        for command in alter.cmds() {
            self.spend(1)?;
            let Node::AlterTableCmd(command) = command else {
                continue;
            };
            self.released(alter, command)?;
            match command.def() {
                Node::Constraint(constraint) => self.constraint(table, constraint)?,
                Node::ColumnDef(column) => {
                    let flow = self.in_table(alter.relation(), column.raw_default())?;
                    if command.subtype == AlterTableType::AT_AlterColumnType
                        && column.type_name().is_some_and(|name| {
                            let last = name.names().iter().next_back().and_then(|name| name.sval());
                            !name.typmods().is_empty()
                                || last.is_some_and(|name| self.is_own_type(name))
                        })
                    {
                        self.compared(table, command.name())?;
                    }
                    // USING writes it into the column, where it stays.
                    let to = self.altered_column(alter.relation(), command.name());
                    self.flow_into(&flow, to)?;
                    for constraint in column.constraints() {
                        if let Node::Constraint(constraint) = constraint {
                            self.constraint(table, constraint)?;
                        }
                    }
                }
                Node::PartitionCmd(part) => {
                    self.named_relation("alter", part.name(), false)?;
                    self.partition_bound(part.bound())?;
                }
                Node::RangeVar(other) => self.named_relation("alter", Some(other), false)?,
                _ if command.subtype == AlterTableType::AT_SetNotNull => {
                    self.compared(table, command.name())?;
                }
                expression if command.subtype == AlterTableType::AT_SetExpression => {
                    self.table_expression(table, expression)?;
                }
                expression if command.subtype == AlterTableType::AT_ColumnDefault => {
                    self.default_expression(table, expression)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A table whose columns are not in the catalog.
fn new_table(range: Option<&RangeVar>) -> Item {
    let name = range.and_then(RangeVar::relname).unwrap_or_default();
    let mut item = Item::new(name.into(), Vec::new());
    item.open = true;
    item
}
