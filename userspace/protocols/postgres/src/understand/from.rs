//! What stands in FROM.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{
    Alias, FuncCall, JoinExpr, JsonTable, JsonTableColumn, RangeFunction, RangeSubselect,
    RangeTableFunc, RangeVar,
};
use pg_raw_parse::raw::JoinType;

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level, Named, ViewLineage};
use super::column_name::column_name;
use super::flow::{ColumnId, Flow, Output, Rows};
use super::query::rename;
use super::tree;
use crate::catalog::{Relation, RelationKind};

impl Analyzer<'_> {
    /// Adds an item of FROM, with all names in it, to the current level.
    pub(super) fn from(&mut self, node: Node<'_>) -> Result<(), SqlRefusal> {
        self.spend(1)?;
        let item = self.item_of(node)?;
        if let Some(item) = item {
            self.add_item(item);
        }
        Ok(())
    }

    fn add_item(&mut self, item: Item) {
        if let Some(level) = self.levels.last_mut() {
            level.items.push(item);
        }
    }

    /// One item; `None` for a join, which adds its own.
    fn item_of(&mut self, node: Node<'_>) -> Result<Option<Item>, SqlRefusal> {
        match node {
            Node::RangeVar(range) => self.range_var(range).map(Some),
            Node::RangeSubselect(query) => self.sub_select(query).map(Some),
            Node::RangeFunction(function) => self.range_function(function).map(Some),
            Node::RangeTableFunc(table) => self.xml_table(table).map(Some),
            Node::JsonTable(table) => self.json_table(table).map(Some),
            Node::RangeTableSample(sample) => {
                for argument in sample.args() {
                    self.predicate(argument)?;
                }
                self.predicate(sample.repeatable())?;
                if let Some(name) = tree::names(sample.method()) {
                    self.sample_method(&name)?;
                }
                match sample.relation() {
                    Node::RangeVar(range) => self.range_var(range).map(Some),
                    _ => Err(SqlRefusal::Unsupported("TABLESAMPLE of that kind")),
                }
            }
            Node::JoinExpr(join) => self.joins(join).map(|()| None),
            _ => Err(SqlRefusal::Unsupported("an item of FROM of that kind")),
        }
    }

    fn sample_method(&mut self, name: &[&str]) -> Result<(), SqlRefusal> {
        if !matches!(name.last(), Some(&("system" | "bernoulli"))) {
            self.call(name)?;
        }
        Ok(())
    }

    fn range_var(&mut self, range: &RangeVar) -> Result<Item, SqlRefusal> {
        let name = range.relname().unwrap_or_default();
        if range.schemaname().is_none()
            && let Some(cte) = self.ctes.iter().rev().find(|cte| &*cte.name == name)
        {
            let rows = cte.rows.clone().ok_or(super::query::BEFORE_ITS_TURN)?;
            let mut item = Item::new(Arc::from(name), rows.columns);
            item.open = rows.open;
            item.rest = rows.rest;
            apply_alias(&mut item, range.alias());
            self.spend(item.columns.len())?;
            return Ok(item);
        }
        self.relations_read += 1;
        let mut item = match self.find(range)? {
            Named::Known(relation) => {
                self.touch_relation("select", relation)?;
                let columns = self.readable_columns(relation)?;
                let mut item = Item::new(Arc::clone(&relation.name), columns);
                item.schema = Some(Arc::clone(&relation.schema));
                item.relation = relation.oid;
                self.loosened(item, relation)
            }
            Named::Created(object) => {
                self.touch("select", super::analyzer::Touched::Object(object))?;
                let mut item = Item::new(Arc::from(name), Vec::new());
                item.open = true;
                item
            }
        };
        apply_alias(&mut item, range.alias());
        Ok(item)
    }

    /// Columns of a table, or of a view with the base columns behind them.
    fn readable_columns(&mut self, relation: &Relation) -> Result<Vec<Arc<Output>>, SqlRefusal> {
        match relation.kind {
            RelationKind::View | RelationKind::MaterializedView => {}
            RelationKind::Index | RelationKind::Composite | RelationKind::Other => {
                return Err(SqlRefusal::UnknownRelation(relation.name.to_string()));
            }
            RelationKind::Table
            | RelationKind::PartitionedTable
            | RelationKind::ForeignTable
            | RelationKind::Sequence => return self.relation_columns(relation.oid),
        }
        if relation.definition.is_none() {
            // The server's own views: objects in their own right.
            return self.relation_columns(relation.oid);
        }
        let view = self.view(relation)?;
        for (action, touched) in &view.touched {
            self.touch(action, touched.clone())?;
        }
        self.called.unknown |= view.called.unknown;
        self.called.security_definer |= view.called.security_definer;
        self.called.effects |= view.called.effects;
        self.called.foreign |= view.called.foreign;
        self.spend(view.columns.len())?;
        Ok(view.columns.clone())
    }

    /// The same, also of what cannot be read.
    pub(super) fn columns_of_any(
        &mut self,
        relation: &Relation,
    ) -> Result<Vec<Arc<Output>>, SqlRefusal> {
        // Nothing is run by it.
        let called = self.called;
        let columns = self.readable_columns(relation);
        self.called = called;
        match columns {
            Err(_) => self.relation_columns(relation.oid),
            columns => columns,
        }
    }

    pub(super) fn view(&mut self, relation: &Relation) -> Result<Arc<ViewLineage>, SqlRefusal> {
        if let Some(known) = relation.lineage.get() {
            return Ok(Arc::clone(known));
        }
        if self.within_views.contains(&relation.oid) {
            return Err(SqlRefusal::Unsupported("a view that refers to itself"));
        }
        let unclear = SqlRefusal::Unsupported("a view whose definition is not understood");
        let definition = relation.definition.as_deref().unwrap_or_default();
        let parsed = tree::parse_definition(definition).map_err(|_| unclear.clone())?;
        let Some(Node::SelectStmt(select)) = parsed.stmts().next() else {
            return Err(unclear);
        };
        // The text was made with this path, before which the server looks among temporary tables; only
        // a temporary view can be over one.
        let path = [Arc::clone(&relation.schema), Arc::from("pg_catalog")];
        let temporary = relation.schema.starts_with("pg_temp_");
        let names = super::NameScope {
            lenient: false,
            path_settled: true,
            search_path: path.get(usize::from(!temporary)..).unwrap_or_default(),
            ..*self.names
        };
        let mut inner = Analyzer::new(&names, self.limits, self.created);
        inner.session = self.session;
        inner.in_view = true;
        inner.session_path.clone_from(&self.session_path);
        inner.within_views.clone_from(&self.within_views);
        inner.within_views.push(relation.oid);
        inner.nesting = self.nesting;
        inner.work = self.work;
        let rows = inner.query(select)?;
        self.work = inner.work;
        if rows.open || rows.columns.len() != relation.columns.len() {
            return Err(unclear);
        }
        let columns = relation
            .columns
            .iter()
            .zip(&rows.columns)
            .map(|(column, output)| {
                let id = ColumnId {
                    relation: relation.oid,
                    attnum: column.attnum,
                };
                let mut flow = Flow::one(id);
                flow.join(&output.flow);
                Arc::new(Output {
                    name: Arc::clone(&column.name),
                    flow,
                    plain: output.plain,
                    described: Some(id),
                })
            })
            .collect();
        let view = Arc::new(ViewLineage {
            columns,
            touched: inner.touched.into_iter().collect(),
            called: inner.called,
        });
        if inner.within_session || !self.created.is_empty() {
            // What it means to this session, or in this text, is not what it means to others.
            self.within_session |= inner.within_session;
            return Ok(view);
        }
        Ok(Arc::clone(relation.lineage.get_or_init(|| view)))
    }

    fn sub_select(&mut self, query: &RangeSubselect) -> Result<Item, SqlRefusal> {
        if !query.lateral
            && let Some(level) = self.levels.last_mut()
        {
            level.hidden = true;
        }
        let rows = self.query_node(query.subquery())?;
        if let Some(level) = self.levels.last_mut() {
            level.hidden = false;
        }
        let mut item = Item::new(Arc::from(""), rows.columns);
        item.open = rows.open;
        item.rest = rows.rest;
        item.name_visible = false;
        apply_alias(&mut item, query.alias());
        Ok(item)
    }

    fn range_function(&mut self, function: &RangeFunction) -> Result<Item, SqlRefusal> {
        let mut all = Flow::default();
        let mut columns: Vec<Arc<Output>> = Vec::new();
        let (mut open, mut loose) = (false, false);
        for entry in function.functions() {
            let Node::NodeList(entry) = entry else {
                continue;
            };
            let call = entry.first().unwrap_or(Node::None);
            let declared = matches!(entry.get(1), Some(Node::NodeList(_)));
            if !declared && let Some(opened) = self.opened_in_from(call, function, &mut columns)? {
                all.join(&opened);
                continue;
            }
            let flow = self.read(call)?;
            // What stands in FROM decides how many rows there are.
            self.touch_flow("usePredicate", &flow)?;
            let shape = self.function_shape(call, function);
            open |= shape.open;
            loose |= shape.loose;
            for name in shape.names {
                columns.push(Arc::new(Output::expression(Arc::from(name), flow.clone())));
            }
            if let Some(Node::NodeList(definitions)) = entry.get(1) {
                open = false;
                columns.extend(
                    definitions
                        .iter()
                        .filter_map(|definition| match definition {
                            Node::ColumnDef(column) => column.colname(),
                            _ => None,
                        })
                        .map(|name| Arc::new(Output::expression(Arc::from(name), flow.clone()))),
                );
            }
            all.join(&flow);
        }
        if !function.coldeflist().is_empty() {
            open = false;
            columns = function
                .coldeflist()
                .iter()
                .filter_map(|column| column.colname())
                .map(|name| Arc::new(Output::expression(Arc::from(name), all.clone())))
                .collect();
        }
        if function.ordinality && !open {
            columns.push(Arc::new(Output::expression(
                Arc::from("ordinality"),
                Flow::default(),
            )));
        }
        let name = function.functions().first().and_then(|entry| match entry {
            Node::NodeList(entry) => entry.first().map(column_name),
            _ => None,
        });
        let mut item = Item::new(Arc::from(name.unwrap_or_default()), columns);
        item.open = open;
        item.loose = loose;
        item.rest = all;
        apply_alias(&mut item, function.alias());
        Ok(item)
    }

    /// The columns of a function whose body is seen; what it is called with decides how many rows
    /// there are.
    fn opened_in_from(
        &mut self,
        call: Node<'_>,
        function: &RangeFunction,
        columns: &mut Vec<Arc<Output>>,
    ) -> Result<Option<Flow>, SqlRefusal> {
        let Node::FuncCall(call) = call else {
            return Ok(None);
        };
        let parts: Vec<&str> = call.funcname().iter().filter_map(Node::as_str).collect();
        let Some(opened) = self.open(call, &parts)? else {
            return Ok(None);
        };
        self.touch_flow("usePredicate", &opened.arguments)?;
        if opened.rows.open {
            return Ok(None);
        }
        let single = opened.rows.columns.len() == 1 && function.functions().len() == 1;
        let alias = function.alias().and_then(|alias| alias.aliasname());
        for column in &opened.rows.columns {
            let own = alias.filter(|_| single);
            columns.push(match own {
                Some(alias) => Arc::new(column.renamed(Arc::from(alias))),
                None => Arc::clone(column),
            });
        }
        Ok(Some(opened.whole()))
    }

    fn function_shape(&self, call: Node<'_>, range: &RangeFunction) -> FunctionShape {
        let own = range.alias().filter(|_| range.functions().len() == 1);
        let single = |name: &str| {
            own.and_then(|alias| alias.aliasname())
                .unwrap_or(name)
                .to_owned()
        };
        let Node::FuncCall(call) = call else {
            // current_date and the like: one value.
            return FunctionShape {
                names: vec![single(column_name(call))],
                open: false,
                loose: false,
            };
        };
        let parts: Vec<&str> = call.funcname().iter().filter_map(Node::as_str).collect();
        let name = parts.last().copied().unwrap_or_default();
        let shadowed = self
            .catalog()
            .functions(name)
            .iter()
            .any(|function| &*function.schema != "pg_catalog");
        let known = columns_of(name, call).iter();
        let mut names: Vec<String> = known.map(|name| (*name).to_owned()).collect();
        if name == "unnest" && call.args().len() == 1 && names.is_empty() {
            let elements = call
                .args()
                .first()
                .map(|array| self.composite_elements(array));
            names.extend(elements.flatten().into_iter().flatten());
        }
        if !names.is_empty() && !shadowed {
            return FunctionShape {
                names,
                open: false,
                loose: false,
            };
        }
        if matches!(name, "unnest" | "generate_subscripts" | "generate_series") && !shadowed {
            // unnest of values that are not seen to be composite; if they are, the server's description
            // has more columns than ours and is not accepted.
            let count = if name == "unnest" {
                call.args().len().max(1)
            } else {
                1
            };
            let names = if count == 1 {
                vec![single(name)]
            } else {
                vec![name.to_owned(); count]
            };
            return FunctionShape {
                names,
                open: false,
                loose: true,
            };
        }
        let functions = self.catalog().functions(name);
        if !functions.is_empty() && functions.iter().all(|function| function.scalar) {
            return FunctionShape {
                names: vec![single(name)],
                open: false,
                loose: false,
            };
        }
        FunctionShape {
            names: Vec::new(),
            open: true,
            loose: false,
        }
    }

    /// Columns of the elements of an array of composite values, where the text says that they are.
    fn composite_elements(&self, array: Node<'_>) -> Option<Vec<String>> {
        let name = match array {
            Node::TypeCast(cast) => cast.type_name()?,
            Node::A_ArrayExpr(array) => {
                let cast = array.elements().iter().find_map(|element| match element {
                    Node::TypeCast(cast) => Some(cast),
                    _ => None,
                });
                cast?.type_name()?
            }
            _ => return None,
        };
        let name = name.names().iter().next_back()?.sval()?;
        let mut types = self.catalog().types_named(name);
        let (only, None) = (types.next()?, types.next()) else {
            return None;
        };
        let relation = self.catalog().relation(only.relation)?;
        let columns = relation.columns.iter();
        Some(columns.map(|column| column.name.to_string()).collect())
    }

    fn xml_table(&mut self, table: &RangeTableFunc) -> Result<Item, SqlRefusal> {
        let mut all = self.read(table.docexpr())?;
        all.join(&self.read(table.rowexpr())?);
        for namespace in table.namespaces() {
            if let Node::ResTarget(target) = namespace {
                all.join(&self.read(target.val())?);
            }
        }
        let mut names = Vec::new();
        for column in table.columns() {
            all.join(&self.read(column.colexpr())?);
            all.join(&self.read(column.coldefexpr())?);
            names.extend(column.colname());
        }
        let columns = names
            .into_iter()
            .map(|name| Arc::new(Output::expression(Arc::from(name), all.clone())))
            .collect();
        self.touch_flow("usePredicate", &all)?;
        let mut item = Item::new(Arc::from("xmltable"), columns);
        apply_alias(&mut item, table.alias());
        Ok(item)
    }

    fn json_table(&mut self, table: &JsonTable) -> Result<Item, SqlRefusal> {
        let mut all = match table.context_item() {
            Some(context) => self.read(Node::JsonValueExpr(context))?,
            None => Flow::default(),
        };
        for passing in table.passing() {
            all.join(&self.read(passing)?);
        }
        let mut names: Vec<String> = Vec::new();
        let mut pending: Vec<&JsonTableColumn> = table.columns().iter().rev().collect();
        while let Some(column) = pending.pop() {
            self.spend(1)?;
            names.extend(column.name().map(str::to_owned));
            for default in [column.on_empty(), column.on_error()].into_iter().flatten() {
                all.join(&self.read(Node::JsonBehavior(default))?);
            }
            let nested: Vec<&JsonTableColumn> = column
                .columns()
                .iter()
                .filter_map(|node| match node {
                    Node::JsonTableColumn(column) => Some(column),
                    _ => None,
                })
                .collect();
            if !nested.is_empty() && column.name().is_some() {
                names.pop();
            }
            pending.extend(nested.into_iter().rev());
        }
        let columns = names
            .into_iter()
            .map(|name| Arc::new(Output::expression(Arc::from(name), all.clone())))
            .collect();
        self.touch_flow("usePredicate", &all)?;
        let mut item = Item::new(Arc::from("json_table"), columns);
        apply_alias(&mut item, table.alias());
        Ok(item)
    }

    /// A tree of joins; the left spine is walked without recursion.
    fn joins(&mut self, join: &JoinExpr) -> Result<(), SqlRefusal> {
        self.enter()?;
        let start = self.levels.last().map_or(0, |level| level.items.len());
        let mut spine = vec![join];
        let mut left = join.larg();
        while let Node::JoinExpr(inner) = left {
            self.spend(1)?;
            spine.push(inner);
            left = inner.larg();
        }
        self.from(left)?;
        while let Some(join) = spine.pop() {
            let middle = self.levels.last().map_or(0, |level| level.items.len());
            self.from(join.rarg())?;
            self.join(join, start, middle)?;
        }
        self.leave();
        Ok(())
    }

    /// Joins what items `start..middle` show with what the items from `middle` on show.
    fn join(&mut self, join: &JoinExpr, start: usize, middle: usize) -> Result<(), SqlRefusal> {
        let left = self.visible(start, Some(middle));
        let right = self.visible(middle, None);
        self.spend(left.columns.len() + right.columns.len())?;
        let shared: Vec<Arc<str>> = if join.is_natural {
            if left.open || right.open {
                return Err(SqlRefusal::Unsupported(
                    "NATURAL JOIN with columns not known",
                ));
            }
            left.columns
                .iter()
                .filter(|column| right.columns.iter().any(|other| other.name == column.name))
                .map(|column| Arc::clone(&column.name))
                .collect()
        } else {
            join.using_clause()
                .iter()
                .filter_map(|name| name.sval())
                .map(Arc::from)
                .collect()
        };
        self.predicate(join.quals())?;
        let mut columns = Vec::new();
        for name in &shared {
            let merged = merged(&left, &right, name, join.jointype);
            self.touch_flow("usePredicate", &merged.flow)?;
            columns.push(Arc::new(merged));
        }
        let merged_count = columns.len();
        let others = left.columns.iter().chain(&right.columns);
        columns.extend(
            others
                .filter(|column| !shared.contains(&column.name))
                .map(Arc::clone),
        );
        let aliased = join.alias().is_some();
        if let Some(level) = self.levels.last_mut() {
            for item in level.items.iter_mut().skip(start) {
                item.columns_visible = false;
                item.name_visible &= !aliased;
            }
        }
        if let Some(alias) = join.join_using_alias() {
            let merged = columns.iter().take(merged_count).map(Arc::clone).collect();
            let mut item = Item::new(Arc::from(""), merged);
            item.columns_visible = false;
            apply_alias(&mut item, Some(alias));
            self.add_item(item);
        }
        let mut item = Item::new(Arc::from(""), columns);
        item.open = left.open || right.open;
        item.rest = left.rest;
        item.rest.join(&right.rest);
        item.name_visible = false;
        apply_alias(&mut item, join.alias());
        self.add_item(item);
        Ok(())
    }

    fn visible(&self, from: usize, to: Option<usize>) -> Rows {
        let items: &[Item] = self.levels.last().map_or(&[], |level: &Level| &level.items);
        let mut rows = Rows::default();
        let end = to.unwrap_or(items.len());
        for item in items
            .iter()
            .take(end)
            .skip(from)
            .filter(|item| item.columns_visible)
        {
            rows.columns.extend(item.columns.iter().map(Arc::clone));
            rows.open |= item.open || item.loose;
            rows.rest.join(&item.rest);
        }
        rows
    }
}

struct FunctionShape {
    names: Vec<String>,
    open: bool,
    loose: bool,
}

/// A column of USING or NATURAL: the left one, the right one, or the first that is not null.
fn merged(left: &Rows, right: &Rows, name: &Arc<str>, kind: JoinType::Type) -> Output {
    let find = |rows: &Rows| {
        rows.columns
            .iter()
            .find(|column| column.name == *name)
            .cloned()
    };
    let mut flow = Flow::default();
    for side in [left, right] {
        // It may be among those that are not known.
        if side.open && find(side).is_none() {
            flow.join(&side.whole());
        }
    }
    let unknown = !flow.is_empty();
    let (left, right) = (find(left), find(right));
    for side in [&left, &right].into_iter().flatten() {
        flow.join(&side.flow);
    }
    let plain = if kind == JoinType::JOIN_RIGHT {
        &right
    } else {
        &left
    };
    let plain = plain.as_ref().and_then(|side| side.plain);
    let plain = if kind == JoinType::JOIN_FULL || unknown {
        None
    } else {
        plain
    };
    Output {
        name: Arc::clone(name),
        flow,
        plain,
        described: None,
    }
}

/// Applies `AS name (columns…)`.
fn apply_alias(item: &mut Item, alias: Option<&Alias>) {
    let Some(alias) = alias else { return };
    let names: Vec<&str> = alias.colnames().iter().filter_map(Node::as_str).collect();
    if item.open && !names.is_empty() {
        let rows = Rows {
            columns: std::mem::take(&mut item.columns),
            open: true,
            rest: std::mem::take(&mut item.rest),
        };
        let rows = rows.by_position();
        (item.columns, item.rest) = (rows.columns, rows.rest);
    }
    item.columns = rename(&item.columns, &names);
    // Names for columns of a function whose result is not known.
    for name in names.iter().skip(item.columns.len()) {
        item.columns.push(Arc::new(Output::expression(
            Arc::from(*name),
            item.rest.clone(),
        )));
    }
    if let Some(name) = alias.aliasname() {
        item.name = Arc::from(name);
        item.schema = None;
        item.name_visible = true;
    }
}

/// Columns of built-in functions that have several, or one with a name of its own.
fn columns_of(name: &str, call: &FuncCall) -> &'static [&'static str] {
    match name {
        "json_each" | "jsonb_each" | "json_each_text" | "jsonb_each_text" => &["key", "value"],
        "json_array_elements"
        | "jsonb_array_elements"
        | "json_array_elements_text"
        | "jsonb_array_elements_text" => &["value"],
        "pg_options_to_table" => &["option_name", "option_value"],
        "aclexplode" => &["grantor", "grantee", "privilege_type", "is_grantable"],
        // Elements of a tsvector are rows, unlike those of arrays.
        "unnest" if call.args().iter().all(is_tsvector) => &["lexeme", "positions", "weights"],
        _ => &[],
    }
}

fn is_tsvector(node: Node<'_>) -> bool {
    let Node::TypeCast(cast) = node else {
        return false;
    };
    cast.type_name().is_some_and(|to| {
        let name = to.names().iter().filter_map(|part| part.sval()).next_back();
        to.array_bounds().is_empty() && name == Some("tsvector")
    })
}
