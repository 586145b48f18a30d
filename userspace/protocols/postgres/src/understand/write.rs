//! INSERT, UPDATE, DELETE, MERGE and their RETURNING lists.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{
    DeleteStmt, InsertStmt, MergeStmt, MergeWhenClause, OnConflictClause, RangeVar, ResTarget,
    ReturningClause, UpdateStmt,
};
use pg_raw_parse::raw::CmdType;

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level, Named, Touched};
use super::flow::{ColumnId, Flow, Output, Rows};
use super::query::is_star;
use super::tree;
use crate::catalog::{Relation, RelationKind};

/// The table that a statement writes.
struct Written<'a> {
    /// `None` when the text itself created it.
    relation: Option<&'a Relation>,
    /// An earlier statement of the text changes its columns: which one a value goes to is not known.
    altered: bool,
    item: Item,
}

impl<'a> Analyzer<'a> {
    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Result<Rows, SqlRefusal> {
        self.enter()?;
        let ctes = self.ctes.len();
        if let Some(with) = insert.with_clause() {
            self.with(with)?;
        }
        let written = self.written(insert.relation(), "insert")?;
        let columns = self.insert_columns(&written, insert)?;
        let sources = self.insert_source(insert.select_stmt(), &columns)?;
        self.levels.push(Level {
            items: vec![written.item.clone()],
            ..Default::default()
        });
        if let Some(conflict) = insert.on_conflict_clause() {
            let excluded = excluded(&written, &columns, &sources);
            self.on_conflict(conflict, &written, excluded)?;
        }
        let rows = self.returning_rows(insert.returning_clause(), &written)?;
        self.levels.pop();
        self.ctes.truncate(ctes);
        self.leave();
        Ok(rows)
    }

    pub(super) fn update(&mut self, update: &UpdateStmt) -> Result<Rows, SqlRefusal> {
        self.enter()?;
        let ctes = self.ctes.len();
        if let Some(with) = update.with_clause() {
            self.with(with)?;
        }
        let written = self.written(update.relation(), "update")?;
        self.levels.push(Level {
            items: vec![written.item.clone()],
            ..Default::default()
        });
        for item in update.from_clause() {
            self.from(item)?;
        }
        self.assignments(update.target_list().iter(), &written)?;
        self.bound(update.where_clause(), &written)?;
        let rows = self.returning_rows(update.returning_clause(), &written)?;
        self.levels.pop();
        self.ctes.truncate(ctes);
        self.leave();
        Ok(rows)
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Result<Rows, SqlRefusal> {
        self.enter()?;
        let ctes = self.ctes.len();
        if let Some(with) = delete.with_clause() {
            self.with(with)?;
        }
        let written = self.written(delete.relation(), "delete")?;
        self.levels.push(Level {
            items: vec![written.item.clone()],
            ..Default::default()
        });
        for item in delete.using_clause() {
            self.from(item)?;
        }
        self.bound(delete.where_clause(), &written)?;
        let rows = self.returning_rows(delete.returning_clause(), &written)?;
        self.levels.pop();
        self.ctes.truncate(ctes);
        self.leave();
        Ok(rows)
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Result<Rows, SqlRefusal> {
        self.enter()?;
        let ctes = self.ctes.len();
        if let Some(with) = merge.with_clause() {
            self.with(with)?;
        }
        let written = self.written(merge.relation(), "select")?;
        self.levels.push(Level::default());
        self.from(merge.source_relation())?;
        if let Some(level) = self.levels.last_mut() {
            level.items.push(written.item.clone());
        }
        self.predicate(merge.join_condition())?;
        for clause in merge.merge_when_clauses() {
            self.merge_clause(clause, &written)?;
        }
        let rows = self.returning_rows(merge.returning_clause(), &written)?;
        self.levels.pop();
        self.ctes.truncate(ctes);
        self.leave();
        Ok(rows)
    }

    fn merge_clause(
        &mut self,
        clause: &MergeWhenClause,
        written: &Written<'a>,
    ) -> Result<(), SqlRefusal> {
        self.predicate(clause.condition())?;
        let targets: Vec<&ResTarget> = clause
            .target_list()
            .iter()
            .filter_map(|node| match node {
                Node::ResTarget(target) => Some(target),
                _ => None,
            })
            .collect();
        match clause.command_type {
            CmdType::CMD_UPDATE => {
                self.write_touch("update", written)?;
                self.assignments(targets.into_iter(), written)
            }
            CmdType::CMD_DELETE => self.write_touch("delete", written),
            CmdType::CMD_INSERT => {
                self.write_touch("insert", written)?;
                let columns = if targets.is_empty() {
                    self.all_columns(written)
                } else {
                    self.target_columns(&targets, written)?
                };
                for id in &columns {
                    self.write_column(*id, written)?;
                }
                for (at, value) in clause.values().iter().enumerate() {
                    let to = columns.get(at).copied().filter(|_| !written.altered);
                    self.assign(value, to)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn written(
        &mut self,
        range: Option<&RangeVar>,
        action: &'static str,
    ) -> Result<Written<'a>, SqlRefusal> {
        let range = range.ok_or(SqlRefusal::Unsupported("a write without a table"))?;
        self.writes = true;
        let alias = range.alias().and_then(|alias| alias.aliasname());
        let name: Arc<str> = Arc::from(alias.or(range.relname()).unwrap_or_default());
        let written = match self.find(range)? {
            Named::Known(relation) => {
                let columns = if relation.definition.is_some() {
                    self.view(relation)?.columns.clone()
                } else {
                    self.relation_columns(relation.oid)?
                };
                let mut item = Item::new(name, columns);
                item.relation = relation.oid;
                if alias.is_none() {
                    item.schema = Some(Arc::clone(&relation.schema));
                }
                Written {
                    relation: Some(relation),
                    altered: self.is_altered(relation),
                    item: self.loosened(item, relation),
                }
            }
            Named::Created(object) => {
                self.touch(action, Touched::Object(object))?;
                let mut item = Item::new(name, Vec::new());
                item.open = true;
                Written {
                    relation: None,
                    altered: false,
                    item,
                }
            }
        };
        self.write_touch(action, &written)?;
        if written
            .relation
            .is_some_and(|relation| relation.kind == RelationKind::View)
        {
            self.written_view(&written, action)?;
        }
        Ok(written)
    }

    /// A write to a view is a write to what is below it.
    fn written_view(
        &mut self,
        written: &Written<'a>,
        action: &'static str,
    ) -> Result<(), SqlRefusal> {
        let Some(relation) = written.relation else {
            return Ok(());
        };
        if relation.definition.is_none() {
            return Ok(());
        }
        let view = self.view(relation)?;
        for (kind, touched) in view.touched.iter().cloned() {
            self.touch(kind, touched.clone())?;
            if kind == "select"
                && let Touched::Relation(_) = touched
            {
                self.touch(action, touched)?;
            }
        }
        Ok(())
    }

    fn write_touch(
        &mut self,
        action: &'static str,
        written: &Written<'a>,
    ) -> Result<(), SqlRefusal> {
        if let Some(relation) = written.relation {
            self.triggers |= relation.triggers || relation.rules;
            self.touch_relation(action, relation)?;
        }
        Ok(())
    }

    fn all_columns(&self, written: &Written<'_>) -> Vec<ColumnId> {
        written.relation.map_or_else(Vec::new, |relation| {
            let id = |attnum| ColumnId {
                relation: relation.oid,
                attnum,
            };
            relation
                .columns
                .iter()
                .map(|column| id(column.attnum))
                .collect()
        })
    }

    fn target_columns(
        &mut self,
        targets: &[&ResTarget],
        written: &Written<'_>,
    ) -> Result<Vec<ColumnId>, SqlRefusal> {
        let mut columns = Vec::with_capacity(targets.len());
        for target in targets {
            let name = target.name().unwrap_or_default();
            self.spend(written.item.columns.len())?;
            let found = written.relation.and_then(|relation| {
                let attnum = relation.column(name)?.attnum;
                Some(ColumnId {
                    relation: relation.oid,
                    attnum,
                })
            });
            match found {
                Some(id) => columns.push(id),
                // Whichever it is by now.
                None if written.altered => columns.extend(self.all_columns(written)),
                None if written.item.open => {}
                None => return Err(SqlRefusal::UnknownColumn(name.to_owned())),
            }
            for step in target.indirection() {
                self.read_subscript(step)?;
            }
        }
        Ok(columns)
    }

    fn read_subscript(&mut self, step: Node<'_>) -> Result<(), SqlRefusal> {
        if let Node::A_Indices(indices) = step {
            self.read(indices.lidx())?;
            self.read(indices.uidx())?;
        }
        Ok(())
    }

    fn insert_columns(
        &mut self,
        written: &Written<'a>,
        insert: &InsertStmt,
    ) -> Result<Vec<ColumnId>, SqlRefusal> {
        let targets: Vec<&ResTarget> = insert
            .cols()
            .iter()
            .filter_map(|node| match node {
                Node::ResTarget(target) => Some(target),
                _ => None,
            })
            .collect();
        let columns = if targets.is_empty() {
            if matches!(insert.select_stmt(), Node::None) {
                Vec::new()
            } else {
                self.all_columns(written)
            }
        } else {
            self.target_columns(&targets, written)?
        };
        for id in &columns {
            self.write_column(*id, written)?;
        }
        Ok(if written.altered { Vec::new() } else { columns })
    }

    fn write_column(&mut self, id: ColumnId, written: &Written<'_>) -> Result<(), SqlRefusal> {
        let name = written
            .relation
            .and_then(|relation| relation.attribute(id.attnum))
            .map(|column| &column.name);
        let column = written
            .item
            .columns
            .iter()
            .find(|column| Some(&column.name) == name);
        let flow = column.map_or_else(|| Flow::one(id), |column| column.flow.clone());
        self.touch_flow("writeColumn", &flow)
    }

    /// What flows into the columns `to`, by position.
    fn insert_source(
        &mut self,
        source: Node<'_>,
        to: &[ColumnId],
    ) -> Result<Vec<Flow>, SqlRefusal> {
        let mut sources: Vec<Flow> = Vec::new();
        let Node::SelectStmt(select) = source else {
            return Ok(sources);
        };
        if !select.values_lists().is_empty() && select.with_clause().is_none() {
            let lists = select.values_lists().iter();
            let starred = lists.clone().any(|list| match list {
                Node::NodeList(list) => list.iter().any(is_star),
                _ => false,
            });
            if starred {
                // Which cell goes where is not known; one more than there are columns says so.
                sources.resize(to.len() + 1, Flow::default());
            }
            for list in lists {
                let Node::NodeList(list) = list else { continue };
                for (at, cell) in list.iter().enumerate() {
                    let to = to.get(at).copied().filter(|_| !starred);
                    let flow = self.assign(cell, to)?;
                    match sources.get_mut(at) {
                        Some(source) => source.join(&flow),
                        None => sources.push(flow),
                    }
                }
            }
            return Ok(sources);
        }
        let rows = self.query(select)?.by_position();
        for (at, column) in rows.columns.iter().enumerate() {
            let to = to.get(at).copied().filter(|_| !rows.open);
            self.flow_into(&column.flow, to)?;
            sources.push(column.flow.clone());
        }
        self.flow_into(&rows.rest, None)?;
        Ok(sources)
    }

    /// A value is written to `to`.
    fn assign(&mut self, value: Node<'_>, to: Option<ColumnId>) -> Result<Flow, SqlRefusal> {
        let beside = to.map_or_else(Flow::default, Flow::one);
        let flow = self.assigned(value, &beside)?;
        self.flow_into(&flow, to)?;
        Ok(flow)
    }

    /// Columns flow into a table: no mask reaches them, unless a column flows into itself.
    pub(super) fn flow_into(
        &mut self,
        flow: &Flow,
        to: Option<ColumnId>,
    ) -> Result<(), SqlRefusal> {
        self.touch_flow("readColumn", flow)?;
        let ids: Vec<ColumnId> = flow
            .iter()
            .map(|(id, _)| id)
            .filter(|id| Some(*id) != to)
            .collect();
        self.diverted.extend(ids);
        Ok(())
    }

    fn assignments<'n>(
        &mut self,
        targets: impl Iterator<Item = &'n ResTarget>,
        written: &Written<'a>,
    ) -> Result<(), SqlRefusal> {
        for target in targets {
            let mut columns = self.target_columns(&[target], written)?;
            for id in &columns {
                self.write_column(*id, written)?;
            }
            if written.altered {
                columns.clear();
            }
            match target.val() {
                Node::MultiAssignRef(part) => {
                    // (a, b) = (SELECT …): each target sees the whole source.
                    let at = usize::try_from(part.colno).unwrap_or(0).wrapping_sub(1);
                    self.multi_assign(part.source(), at, columns.first().copied())?;
                }
                value => {
                    self.assign(value, columns.first().copied())?;
                }
            }
        }
        Ok(())
    }

    fn multi_assign(
        &mut self,
        source: Node<'_>,
        at: usize,
        to: Option<ColumnId>,
    ) -> Result<(), SqlRefusal> {
        match source {
            Node::SubLink(link) => {
                let rows = self.query_node(link.subselect())?.by_position();
                let to = to.filter(|_| !rows.open);
                let flow = rows.columns.get(at).map(|column| column.flow.clone());
                self.flow_into(&flow.unwrap_or_default(), to)?;
                self.flow_into(&rows.rest, None)
            }
            Node::RowExpr(row) if row.args().iter().any(is_star) => {
                for value in row.args() {
                    self.assign(value, None)?;
                }
                Ok(())
            }
            Node::RowExpr(row) => {
                let value = row.args().get(at).unwrap_or(Node::None);
                self.assign(value, to).map(drop)
            }
            value => self.assign(value, None).map(drop),
        }
    }

    /// The WHERE of an UPDATE or DELETE.
    fn bound(&mut self, condition: Node<'_>, written: &Written<'a>) -> Result<(), SqlRefusal> {
        if matches!(condition, Node::CurrentOfExpr(_)) {
            return Ok(());
        }
        let flow = self.predicate(condition)?;
        let own = match written.relation {
            Some(relation) => flow.iter().any(|(id, _)| id.relation == relation.oid),
            None => !matches!(condition, Node::None),
        };
        let named = own || names_system_column(condition);
        self.unbounded |= !named;
        Ok(())
    }

    fn on_conflict(
        &mut self,
        conflict: &OnConflictClause,
        written: &Written<'a>,
        excluded: Item,
    ) -> Result<(), SqlRefusal> {
        if let Some(infer) = conflict.infer() {
            for element in infer.index_elems() {
                if let Node::IndexElem(element) = element {
                    self.predicate(element.expr())?;
                    self.index_column(element.name(), written)?;
                }
            }
            self.predicate(infer.where_clause())?;
        }
        if conflict.target_list().is_empty() {
            return Ok(());
        }
        self.write_touch("update", written)?;
        if let Some(level) = self.levels.last_mut() {
            level.items.push(excluded);
        }
        self.assignments(conflict.target_list().iter(), written)?;
        self.predicate(conflict.where_clause())?;
        if let Some(level) = self.levels.last_mut() {
            level.items.pop();
        }
        Ok(())
    }

    fn index_column(
        &mut self,
        name: Option<&str>,
        written: &Written<'_>,
    ) -> Result<(), SqlRefusal> {
        let Some(name) = name else { return Ok(()) };
        let found = written
            .item
            .columns
            .iter()
            .find(|column| &*column.name == name);
        match found {
            Some(column) => self.touch_flow("usePredicate", &column.flow),
            None => Ok(()),
        }
    }

    fn returning_rows(
        &mut self,
        returning: Option<&ReturningClause>,
        written: &Written<'a>,
    ) -> Result<Rows, SqlRefusal> {
        let Some(returning) = returning else {
            return Ok(Rows::default());
        };
        self.returning |= self.nesting == 1;
        let mut names = vec!["old".to_owned(), "new".to_owned()];
        for option in returning.options() {
            names.extend(option.value().map(str::to_owned));
        }
        for name in names {
            let mut item = written.item.clone();
            item.name = Arc::from(name);
            item.schema = None;
            item.columns_visible = false;
            if let Some(level) = self.levels.last_mut() {
                level.items.push(item);
            }
        }
        let targets = returning.exprs().iter().filter_map(|node| match node {
            Node::ResTarget(target) => Some(target),
            _ => None,
        });
        self.targets(targets)
    }
}

/// EXCLUDED is what this statement inserts itself: what flows into each column.
fn excluded(written: &Written<'_>, to: &[ColumnId], sources: &[Flow]) -> Item {
    let mut all = Flow::default();
    for source in sources {
        all.join(source);
    }
    // Which of them goes where is known when there is one for each.
    let known = sources.len() <= to.len() && !written.altered && !written.item.open;
    let flow_of = |column: &Output| {
        if !known {
            return all.clone();
        }
        let at = to.iter().position(|id| Some(*id) == column.plain);
        let flow = at.and_then(|at| sources.get(at));
        flow.cloned().unwrap_or_default()
    };
    let columns = written.item.columns.iter().map(|column| {
        let output = Output::expression(Arc::clone(&column.name), flow_of(column));
        Arc::new(output)
    });
    let mut excluded = Item::new(Arc::from("excluded"), columns.collect());
    excluded.open = written.item.open;
    excluded.rest = all.derived();
    excluded.columns_visible = false;
    excluded
}

/// `WHERE ctid = …` picks rows as well.
fn names_system_column(condition: Node<'_>) -> bool {
    let mut pending = vec![condition];
    let mut budget = 10_000usize;
    while let Some(node) = pending.pop() {
        budget = budget.saturating_sub(1);
        if budget == 0 {
            return false;
        }
        match node {
            Node::ColumnRef(column) => {
                if column.fields().iter().filter_map(Node::as_str).next_back() == Some("ctid") {
                    return true;
                }
            }
            Node::A_Expr(expr) => pending.extend([expr.lexpr(), expr.rexpr()]),
            Node::BoolExpr(both) => pending.extend(both.args()),
            node => {
                if matches!(node, Node::NodeList(_)) {
                    tree::children(node, |child| pending.push(child));
                }
            }
        }
    }
    false
}
