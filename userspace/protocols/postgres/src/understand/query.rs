//! Queries: SELECT, VALUES, set operations, WITH.

use std::sync::Arc;

use pg_raw_parse::nodes::{CommonTableExpr, ResTarget, SelectStmt, SortBy, WithClause};
use pg_raw_parse::raw::SetOperation;
use pg_raw_parse::{ConstValue, Node};

use super::SqlRefusal;
use super::analyzer::{Analyzer, Cte, Level};
use super::column_name::column_name;
use super::flow::{Flow, Output, Rows};

/// Rounds until the lineage of a recursive query no longer grows; then it is taken as derived
/// from all it reaches.
const RECURSION_ROUNDS_MAX: usize = 12;

/// A query of WITH RECURSIVE that is not understood yet, or the whole of one that goes round.
pub(super) const BEFORE_ITS_TURN: SqlRefusal =
    SqlRefusal::Unsupported("a reference in WITH RECURSIVE before its turn");

impl Analyzer<'_> {
    /// A query in any place that takes one, data-modifying statements included.
    pub(super) fn query_node(&mut self, node: Node<'_>) -> Result<Rows, SqlRefusal> {
        match node {
            Node::SelectStmt(select) => self.query(select),
            Node::InsertStmt(insert) => self.insert(insert),
            Node::UpdateStmt(update) => self.update(update),
            Node::DeleteStmt(delete) => self.delete(delete),
            Node::MergeStmt(merge) => self.merge(merge),
            _ => Err(SqlRefusal::Unsupported("a query of that kind")),
        }
    }

    /// A SELECT; its output columns are not recorded as read until something uses them.
    pub(super) fn query(&mut self, select: &SelectStmt) -> Result<Rows, SqlRefusal> {
        self.enter()?;
        let ctes = self.ctes.len();
        if let Some(with) = select.with_clause() {
            self.with(with)?;
        }
        let rows = if select.op == SetOperation::SETOP_NONE {
            self.simple(select)?
        } else {
            self.set_operation(select)?
        };
        self.ctes.truncate(ctes);
        self.leave();
        Ok(rows)
    }

    fn simple(&mut self, select: &SelectStmt) -> Result<Rows, SqlRefusal> {
        if select.into_clause().is_some() && self.nesting > 1 {
            return Err(SqlRefusal::Unsupported("INTO in a sub-query"));
        }
        if !select.values_lists().is_empty() {
            let rows = self.values(select)?;
            self.levels.push(Level::default());
            self.tail(select, &rows)?;
            self.levels.pop();
            return Ok(rows);
        }
        self.levels.push(Level::default());
        for item in select.from_clause() {
            self.from(item)?;
        }
        self.predicate(select.where_clause())?;
        self.note_setting(select);
        let rows = self.targets(select.target_list().iter())?;
        for item in select.group_clause() {
            self.ordering(item, &rows, true)?;
        }
        self.predicate(select.having_clause())?;
        for window in select.window_clause() {
            if let Node::WindowDef(window) = window {
                self.window(window)?;
            }
        }
        for item in select.distinct_clause() {
            match item {
                Node::None => self.compare_all(&rows)?,
                item => self.ordering(item, &rows, false)?,
            }
        }
        self.tail(select, &rows)?;
        self.levels.pop();
        Ok(rows)
    }

    /// ORDER BY, LIMIT and FOR UPDATE.
    fn tail(&mut self, select: &SelectStmt, rows: &Rows) -> Result<(), SqlRefusal> {
        for sort in select.sort_clause() {
            self.sort(sort, rows)?;
        }
        self.predicate(select.limit_offset())?;
        self.predicate(select.limit_count())?;
        if self.nesting == 1
            && let Node::A_Const(count) = select.limit_count()
        {
            self.limit = match count.val() {
                Some(ConstValue::Integer(count)) => Some(i64::from(count)),
                _ => None,
            };
        }
        if !select.locking_clause().is_empty() {
            let relations: Vec<u32> = self
                .levels
                .last()
                .into_iter()
                .flat_map(|level| &level.items)
                .map(|item| item.relation)
                .collect();
            for oid in relations {
                if let Some(relation) = self.catalog().relation(oid) {
                    self.touch_relation("lock", relation)?;
                }
            }
        }
        Ok(())
    }

    fn sort(&mut self, sort: &SortBy, rows: &Rows) -> Result<(), SqlRefusal> {
        self.ordering(sort.node(), rows, false)
    }

    /// An item of ORDER BY, GROUP BY or DISTINCT ON: a position, an output's name or an
    /// expression.
    fn ordering(
        &mut self,
        node: Node<'_>,
        rows: &Rows,
        prefer_input: bool,
    ) -> Result<(), SqlRefusal> {
        let mut pending = vec![node];
        while let Some(node) = pending.pop() {
            self.spend(1)?;
            if let Node::GroupingSet(set) = node {
                pending.extend(set.content());
                continue;
            }
            if let Node::A_Const(constant) = node
                && let Some(ConstValue::Integer(position)) = constant.val()
            {
                let at = usize::try_from(position).unwrap_or(0).wrapping_sub(1);
                if rows.open && !rows.whole().is_empty() {
                    // Which one it is depends on how many there are.
                    self.touch_flow("usePredicate", &rows.whole())?;
                } else if let Some(column) = rows.columns.get(at) {
                    self.touch_flow("usePredicate", &column.flow)?;
                } else if rows.open {
                    return Err(SqlRefusal::Unsupported(
                        "ordering by a column that is not known",
                    ));
                }
                continue;
            }
            let name = match node {
                Node::ColumnRef(column) if column.fields().len() == 1 => {
                    column.fields().first().and_then(Node::as_str)
                }
                _ => None,
            };
            let mut found = Flow::default();
            if let Some(name) = name {
                self.spend(rows.columns.len())?;
                for output in rows.columns.iter().filter(|output| &*output.name == name) {
                    found.join(&output.flow);
                }
                let is_output = rows.columns.iter().any(|output| &*output.name == name);
                if is_output && !prefer_input {
                    self.touch_flow("usePredicate", &found)?;
                    continue;
                }
                if is_output {
                    // GROUP BY takes the input column of that name when there is one.
                    self.touch_flow("usePredicate", &found)?;
                    match self.predicate(node) {
                        Ok(_) | Err(SqlRefusal::UnknownColumn(_)) => continue,
                        Err(refusal) => return Err(refusal),
                    }
                }
            }
            self.predicate(node)?;
        }
        Ok(())
    }

    pub(super) fn compare_all(&mut self, rows: &Rows) -> Result<(), SqlRefusal> {
        for column in &rows.columns {
            self.touch_flow("usePredicate", &column.flow)?;
        }
        self.touch_flow("usePredicate", &rows.rest)
    }

    /// A target list or RETURNING list.
    pub(super) fn targets<'n>(
        &mut self,
        targets: impl Iterator<Item = &'n ResTarget>,
    ) -> Result<Rows, SqlRefusal> {
        let mut rows = Rows::default();
        for target in targets {
            if let Some(qualifier) = star_of(target.val())? {
                let star = self.star(&qualifier)?;
                rows.open |= star.open;
                rows.rest.join(&star.rest);
                rows.columns.extend(star.columns);
                continue;
            }
            if let Node::A_Indirection(part) = target.val()
                && part
                    .indirection()
                    .iter()
                    .any(|step| matches!(step, Node::A_Star(_)))
            {
                if let Some(star) = self.star_of_row(part)? {
                    rows.open |= star.open;
                    rows.rest.join(&star.rest);
                    rows.columns.extend(star.columns);
                    continue;
                }
                // (composite).*: as many columns as the type has.
                let flow = self.read(target.val())?;
                rows.open = true;
                rows.rest.join(&flow);
                continue;
            }
            let mut output = self.target(target.val())?;
            output.name = Arc::from(target.name().unwrap_or_else(|| column_name(target.val())));
            rows.columns.push(Arc::new(output));
        }
        self.spend(rows.columns.len())?;
        Ok(rows)
    }

    fn values(&mut self, select: &SelectStmt) -> Result<Rows, SqlRefusal> {
        let mut columns: Vec<Flow> = Vec::new();
        // A row that is written as its columns moves those behind it.
        let mut open = false;
        self.levels.push(Level::default());
        for list in select.values_lists() {
            let Node::NodeList(list) = list else { continue };
            for (at, cell) in list.iter().enumerate() {
                if columns.len() <= at {
                    columns.push(Flow::default());
                }
                open |= is_star(cell);
                let flow = match cell {
                    Node::A_Const(_) | Node::SetToDefault(_) => continue,
                    cell => self.read(cell)?,
                };
                if let Some(column) = columns.get_mut(at) {
                    column.join(&flow);
                }
            }
        }
        self.levels.pop();
        self.spend(columns.len())?;
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(at, flow)| {
                Arc::new(Output::expression(
                    Arc::from(format!("column{}", at + 1)),
                    flow,
                ))
            })
            .collect();
        let rows = Rows {
            columns,
            open,
            ..Rows::default()
        };
        Ok(rows.by_position())
    }

    /// UNION and its kind; chains are flattened, so their length costs no stack.
    fn set_operation(&mut self, select: &SelectStmt) -> Result<Rows, SqlRefusal> {
        let mut pending = vec![(select, true)];
        let mut compares = false;
        let mut result: Option<Rows> = None;
        while let Some((branch, top)) = pending.pop() {
            self.spend(1)?;
            let bare = branch.with_clause().is_none()
                && branch.sort_clause().is_empty()
                && matches!(branch.limit_count(), Node::None)
                && matches!(branch.limit_offset(), Node::None)
                && branch.locking_clause().is_empty();
            if branch.op != SetOperation::SETOP_NONE && (top || bare) {
                compares |= !branch.all || branch.op != SetOperation::SETOP_UNION;
                pending.extend(branch.rarg().map(|right| (right, false)));
                pending.extend(branch.larg().map(|left| (left, false)));
                continue;
            }
            let rows = self.query(branch)?;
            result = Some(match result {
                None => unioned(rows.clone(), rows),
                Some(before) => unioned(before, rows),
            });
        }
        let rows = result.unwrap_or_default();
        self.spend(rows.columns.len())?;
        if compares {
            self.compare_all(&rows)?;
        }
        self.levels.push(Level::default());
        self.tail(select, &rows)?;
        self.levels.pop();
        Ok(rows)
    }

    /// Puts the clause's expressions in scope; the caller takes them out.
    pub(super) fn with(&mut self, with: &WithClause) -> Result<(), SqlRefusal> {
        if with.recursive {
            for cte in with.ctes() {
                let name = Arc::from(cte.ctename().unwrap_or_default());
                self.ctes.push(Cte { name, rows: None });
            }
            return self.in_turn(with);
        }
        for cte in with.ctes() {
            let rows = self.query_node(cte.ctequery())?;
            let rows = renamed_rows(cte, rows)?;
            let name = Arc::from(cte.ctename().unwrap_or_default());
            self.ctes.push(Cte {
                name,
                rows: Some(rows),
            });
        }
        Ok(())
    }

    /// Queries of WITH RECURSIVE may refer to later ones, but not round: one that does waits for its turn.
    fn in_turn(&mut self, with: &WithClause) -> Result<(), SqlRefusal> {
        let first = self.ctes.len() - with.ctes().len();
        let mut waiting: Vec<_> = with.ctes().iter().enumerate().collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut still = Vec::new();
            for (at, cte) in waiting {
                let (levels, ctes) = (self.levels.len(), self.ctes.len());
                let (nesting, read) = (self.nesting, self.relations_read);
                match self.recursive(cte, first + at) {
                    Err(refusal) if refusal == BEFORE_ITS_TURN => {
                        self.levels.truncate(levels);
                        self.ctes.truncate(ctes);
                        self.set_unknown(first + at);
                        (self.nesting, self.relations_read) = (nesting, read);
                        still.push((at, cte));
                    }
                    done => done?,
                }
            }
            if still.len() == before {
                return Err(BEFORE_ITS_TURN);
            }
            waiting = still;
        }
        Ok(())
    }

    fn set_unknown(&mut self, at: usize) {
        if let Some(cte) = self.ctes.get_mut(at) {
            cte.rows = None;
        }
    }

    /// Repeats the query with what is known of itself until nothing is added.
    fn recursive(&mut self, cte: &CommonTableExpr, at: usize) -> Result<(), SqlRefusal> {
        let read = self.relations_read;
        if let Node::SelectStmt(select) = cte.ctequery()
            && let Some(left) = select.larg()
            && select.op == SetOperation::SETOP_UNION
        {
            // The non-recursive term sees what the WITH of the whole sees.
            let ctes = self.ctes.len();
            if let Some(with) = select.with_clause() {
                self.with(with)?;
            }
            let start = self.query(left)?;
            self.ctes.truncate(ctes);
            self.set_cte(at, renamed_rows(cte, start)?);
        }
        for _ in 0..RECURSION_ROUNDS_MAX {
            let before = self.ctes.get(at).and_then(|known| known.rows.clone());
            self.relations_read = read;
            let rows = self.query_node(cte.ctequery())?;
            let rows = renamed_rows(cte, rows)?;
            for name in cte
                .cycle_clause()
                .into_iter()
                .flat_map(|cycle| cycle.cycle_col_list())
            {
                // Rows that came before end it.
                let columns = rows.columns.iter();
                let named = columns.filter(|column| Some(&*column.name) == name.as_str());
                for column in named.cloned().collect::<Vec<_>>() {
                    self.touch_flow("usePredicate", &column.flow)?;
                }
            }
            let stable = before.as_ref() == Some(&rows);
            self.set_cte(at, rows);
            if stable {
                return Ok(());
            }
        }
        let mut all = Flow::default();
        let rows = self
            .ctes
            .get(at)
            .and_then(|known| known.rows.clone())
            .unwrap_or_default();
        for column in &rows.columns {
            all.join(&column.flow);
        }
        let columns = rows
            .columns
            .iter()
            .map(|column| Arc::new(Output::expression(Arc::clone(&column.name), all.clone())))
            .collect();
        self.set_cte(
            at,
            Rows {
                columns,
                open: rows.open,
                rest: rows.rest,
            },
        );
        Ok(())
    }

    fn set_cte(&mut self, at: usize, rows: Rows) {
        if let Some(cte) = self.ctes.get_mut(at) {
            cte.rows = Some(rows);
        }
    }
}

/// Both branches' columns by position; names are the first one's.
fn unioned(mut first: Rows, mut second: Rows) -> Rows {
    let open = first.open || second.open || first.columns.len() != second.columns.len();
    first.open = open;
    second.open = open;
    let (first, second) = (first.by_position(), second.by_position());
    let columns = first
        .columns
        .iter()
        .zip(&second.columns)
        .map(|(left, right)| {
            let mut flow = left.flow.clone();
            flow.join(&right.flow);
            let plain = if left.plain == right.plain {
                left.plain
            } else {
                None
            };
            Arc::new(Output {
                name: Arc::clone(&left.name),
                flow,
                plain,
                described: Some(super::flow::NO_COLUMN),
            })
        })
        .collect();
    let mut rest = first.rest;
    rest.join(&second.rest);
    Rows {
        columns,
        open,
        rest,
    }
}

/// Applies `WITH name (columns…)`, SEARCH and CYCLE.
fn renamed_rows(cte: &CommonTableExpr, mut rows: Rows) -> Result<Rows, SqlRefusal> {
    let names: Vec<&str> = cte
        .aliascolnames()
        .iter()
        .filter_map(Node::as_str)
        .collect();
    if !names.is_empty() {
        rows = rows.by_position();
    }
    rows.columns = rename(&rows.columns, &names);
    for name in names.iter().skip(rows.columns.len()).filter(|_| rows.open) {
        let column = Output::row(Arc::from(*name), rows.rest.clone());
        rows.columns.push(Arc::new(column));
    }
    let mut everything = Flow::default();
    for column in &rows.columns {
        everything.join(&column.flow);
    }
    everything.join(&rows.rest);
    let mut extra: Vec<&str> = Vec::new();
    extra.extend(
        cte.search_clause()
            .and_then(|search| search.search_seq_column()),
    );
    if let Some(cycle) = cte.cycle_clause() {
        extra.extend(cycle.cycle_mark_column());
        extra.extend(cycle.cycle_path_column());
    }
    for name in extra {
        rows.columns.push(Arc::new(Output::expression(
            Arc::from(name),
            everything.clone(),
        )));
    }
    Ok(rows)
}

/// The first columns under new names.
pub(super) fn rename(columns: &[Arc<Output>], names: &[&str]) -> Vec<Arc<Output>> {
    columns
        .iter()
        .enumerate()
        .map(|(at, column)| match names.get(at) {
            Some(name) if **name != *column.name => Arc::new(column.renamed(Arc::from(*name))),
            _ => Arc::clone(column),
        })
        .collect()
}

/// Whether it stands for as many columns as a row has.
pub(super) fn is_star(node: Node<'_>) -> bool {
    let last = match node {
        Node::ColumnRef(column) => column.fields().iter().next_back(),
        Node::A_Indirection(part) => part.indirection().iter().next_back(),
        _ => None,
    };
    matches!(last, Some(Node::A_Star(_)))
}

/// The qualifier when `node` is `*` or `t.*` in a target list.
fn star_of(node: Node<'_>) -> Result<Option<Vec<&str>>, SqlRefusal> {
    let Node::ColumnRef(column) = node else {
        return Ok(None);
    };
    let fields: Vec<Node<'_>> = column.fields().iter().collect();
    let Some((Node::A_Star(_), before)) = fields.split_last() else {
        return Ok(None);
    };
    let names: Vec<&str> = before.iter().filter_map(|node| node.as_str()).collect();
    if names.len() == before.len() {
        Ok(Some(names))
    } else {
        Err(SqlRefusal::Unsupported("a column reference of that form"))
    }
}
