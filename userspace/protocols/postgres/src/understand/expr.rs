//! Expressions: the columns in them, the functions they call, the literals beside columns.

use std::sync::Arc;

use pg_raw_parse::nodes::{A_Const, A_Expr, FuncCall, SubLink, TypeCast, WindowDef};
use pg_raw_parse::raw::SubLinkType;
use pg_raw_parse::{ConstValue, Node};

use super::SqlRefusal;
use super::analyzer::Analyzer;
use super::column_name::column_name;
use super::flow::{Flow, NO_COLUMN, Output};
use super::functions::{self, Special};
use super::{guards, partial, tree};

/// Literals and columns that stand beside each other: one operand of AND or OR.
#[derive(Default)]
struct Group {
    flow: Flow,
    literals: Vec<usize>,
    parameters: Vec<u16>,
}

/// One node to visit: with its level, its group, and whether it decides instead of being shown.
struct Visit<'n> {
    node: Node<'n>,
    depth: usize,
    group: usize,
    predicate: bool,
    /// Something above it may fail by what it is given.
    fragile: bool,
}

/// An expression under analysis; the tree is walked with a stack of its own.
#[derive(Default)]
struct Walk<'n> {
    pending: Vec<Visit<'n>>,
    groups: Vec<Group>,
    read: Flow,
    used: Flow,
    effects: bool,
    /// A function in it returns a set: the values decide how many rows there are. Or an operation may
    /// fail: the values decide whether there are any.
    rows: bool,
}

impl<'n> Walk<'n> {
    fn push(&mut self, node: Node<'n>, from: &Visit<'n>) {
        self.push_as(node, from, from.predicate);
    }

    fn push_as(&mut self, node: Node<'n>, from: &Visit<'n>, predicate: bool) {
        let (depth, group) = (from.depth + 1, from.group);
        self.pending.push(Visit {
            node,
            depth,
            group,
            predicate,
            fragile: from.fragile,
        });
    }

    /// An operand of something that may fail by its value.
    fn push_fragile(&mut self, node: Node<'n>, from: &Visit<'n>) {
        self.push(node, from);
        if let Some(visit) = self.pending.last_mut() {
            visit.fragile = true;
        }
    }

    fn push_apart(&mut self, node: Node<'n>, from: &Visit<'n>, predicate: bool) {
        self.groups.push(Group::default());
        let (depth, group) = (from.depth + 1, self.groups.len() - 1);
        self.pending.push(Visit {
            node,
            depth,
            group,
            predicate,
            fragile: from.fragile,
        });
    }

    fn add(&mut self, flow: &Flow, visit: &Visit<'n>) {
        if let Some(group) = self.groups.get_mut(visit.group) {
            group.flow.join(flow);
        }
        if visit.predicate {
            self.used.join(flow);
        } else {
            self.read.join(flow);
        }
    }
}

impl Analyzer<'_> {
    /// An expression whose value is used: its columns are read.
    pub(super) fn read(&mut self, node: Node<'_>) -> Result<Flow, SqlRefusal> {
        self.expression_of(node, false, &Flow::default(), false)
    }

    /// An expression that decides which rows come, or in which order.
    pub(super) fn predicate(&mut self, node: Node<'_>) -> Result<Flow, SqlRefusal> {
        self.expression_of(node, true, &Flow::default(), false)
    }

    /// An expression assigned to `to`.
    pub(super) fn assigned(&mut self, node: Node<'_>, to: &Flow) -> Result<Flow, SqlRefusal> {
        // A constraint may tell what was chosen.
        self.expression_of(node, false, to, true)
    }

    /// One entry of a target list, without its alias.
    pub(super) fn target(&mut self, node: Node<'_>) -> Result<Output, SqlRefusal> {
        if let Node::ColumnRef(column) = node {
            self.spend(1)?;
            return self.column(column);
        }
        if let Node::SubLink(link) = node
            && link.sub_link_type == SubLinkType::EXPR_SUBLINK
        {
            let rows = self.query_node(link.subselect())?.by_position();
            if rows.open {
                return Ok(Output::row(Arc::from(column_name(node)), rows.whole()));
            }
            let first = rows.columns.first();
            let mut output = first.map_or_else(
                || Output::expression(Arc::from("?column?"), Flow::default()),
                |first| Output::clone(first),
            );
            output.name = Arc::from(column_name(node));
            output.described = Some(NO_COLUMN);
            return Ok(output);
        }
        if let Node::TypeCast(cast) = node
            && let Node::ColumnRef(column) = cast.arg()
        {
            let output = self.column(column)?;
            if self.is_no_cast(cast, &output) {
                return Ok(output);
            }
        }
        if let Node::A_Indirection(part) = node
            && let Some(output) = self.field_of_row(part)?
        {
            return Ok(output);
        }
        if let Node::FuncCall(call) = node
            && let Some(output) = self.field_by_call(call)?
        {
            return Ok(output);
        }
        let flow = self.read(node)?;
        Ok(Output::expression(Arc::from(column_name(node)), flow))
    }

    /// A cast of a base column to the type it has changes nothing, and the server drops it.
    fn is_no_cast(&self, cast: &TypeCast, output: &Output) -> bool {
        let (Some(id), Some(to)) = (output.plain, cast.type_name()) else {
            return false;
        };
        let Some((_, column)) = self.catalog().column(id.relation, id.attnum) else {
            return false;
        };
        let Some(from) = self.catalog().type_of(column.type_oid) else {
            return false;
        };
        let names: Vec<&str> = to.names().iter().filter_map(|name| name.sval()).collect();
        let same = match names.as_slice() {
            [name] => *name == &*from.name && &*from.schema == "pg_catalog",
            [schema, name] => *name == &*from.name && *schema == &*from.schema,
            _ => false,
        };
        same && to.typmods().is_empty() && to.array_bounds().is_empty() && !to.setof
    }

    fn expression_of(
        &mut self,
        node: Node<'_>,
        predicate: bool,
        beside: &Flow,
        fragile: bool,
    ) -> Result<Flow, SqlRefusal> {
        let mut walk = Walk::default();
        walk.groups.push(Group {
            flow: beside.clone(),
            ..Group::default()
        });
        walk.pending.push(Visit {
            node,
            depth: 0,
            group: 0,
            predicate,
            fragile,
        });
        while let Some(visit) = walk.pending.pop() {
            self.spend(1)?;
            if visit.depth > self.limits.depth_max {
                return Err(SqlRefusal::TooDeep);
            }
            self.visit(&visit, &mut walk)?;
        }
        self.touch_flow("readColumn", &walk.read)?;
        self.touch_flow("usePredicate", &walk.used)?;
        for group in &walk.groups {
            self.pair(group)?;
        }
        let mut all = walk.read;
        all.join(&walk.used);
        if walk.rows {
            self.touch_flow("usePredicate", &all)?;
        }
        if walk.effects {
            self.touch_flow("readColumn", &all)?;
            self.divert(&all);
        }
        Ok(all.derived())
    }

    fn pair(&mut self, group: &Group) -> Result<(), SqlRefusal> {
        if self.in_view {
            return Ok(());
        }
        self.spend((group.literals.len() + group.parameters.len()) * group.flow.len())?;
        for (id, _) in group.flow.iter() {
            for at in &group.literals {
                self.literals.entry(*at).or_default().insert(id);
            }
            for number in &group.parameters {
                self.parameters.insert((*number, id));
            }
        }
        Ok(())
    }

    fn visit<'n>(&mut self, visit: &Visit<'n>, walk: &mut Walk<'n>) -> Result<(), SqlRefusal> {
        match visit.node {
            Node::None => Ok(()),
            Node::A_Const(constant) => {
                literal(constant, visit, walk);
                Ok(())
            }
            Node::ParamRef(parameter) if self.arguments.is_some() => {
                let arguments = self.arguments.as_ref();
                let flow = arguments.map(|known| known.numbered(parameter.number));
                walk.add(&flow.unwrap_or_default().derived(), visit);
                Ok(())
            }
            Node::ParamRef(parameter) => {
                if let (Ok(number), Some(group)) = (
                    u16::try_from(parameter.number),
                    walk.groups.get_mut(visit.group),
                ) {
                    group.parameters.push(number);
                }
                Ok(())
            }
            Node::ColumnRef(column) => {
                let output = self.column(column)?;
                walk.add(&output.flow.derived(), visit);
                Ok(())
            }
            Node::BoolExpr(_) | Node::CaseExpr(_) | Node::CoalesceExpr(_) => {
                self.choice(visit, walk)
            }
            Node::XmlExpr(_) => {
                tree::children(visit.node, |child| walk.push_fragile(child, visit));
                Ok(())
            }
            Node::SubLink(link) => self.sub_link(link, visit, walk),
            Node::FuncCall(call) => self.function(call, visit, walk),
            Node::A_Expr(expr) => self.operator(expr, visit, walk),
            Node::TypeCast(cast) => self.cast(cast, visit, walk),
            Node::JsonArrayQueryConstructor(array) => {
                let rows = self.query_node(array.query())?;
                walk.add(&rows.whole(), visit);
                Ok(())
            }
            Node::SelectStmt(_) => Err(SqlRefusal::Unsupported("a query in that place")),
            Node::A_Indirection(part) => {
                let Some(output) = self.field_of_row(part)? else {
                    for name in part.indirection().iter().filter_map(Node::as_str) {
                        // `(row).f` is also how a function of a row can be written.
                        let functions = self.catalog().functions(name);
                        if functions.iter().any(|one| &*one.schema != "pg_catalog") {
                            walk.effects |= self.call(&[name])?;
                        }
                    }
                    tree::children(visit.node, |child| walk.push(child, visit));
                    return Ok(());
                };
                walk.add(&output.flow.derived(), visit);
                Ok(())
            }
            node => {
                if tree::children(node, |child| walk.push(child, visit)) {
                    Ok(())
                } else {
                    Err(SqlRefusal::Unsupported("an expression of that kind"))
                }
            }
        }
    }

    /// What decides which part of it is computed.
    fn choice<'n>(&mut self, visit: &Visit<'n>, walk: &mut Walk<'n>) -> Result<(), SqlRefusal> {
        match visit.node {
            Node::BoolExpr(both) => {
                let decides =
                    visit.predicate || visit.fragile || self.any_runs_query(both.args().iter())?;
                for operand in both.args() {
                    walk.push_apart(operand, visit, decides);
                }
            }
            Node::CaseExpr(case) => {
                let decides = visit.predicate || visit.fragile || self.chooses_work(case)?;
                walk.push_as(case.arg(), visit, decides);
                for when in case.args() {
                    if let Node::CaseWhen(when) = when {
                        walk.push_as(when.expr(), visit, decides);
                        walk.push(when.result(), visit);
                    }
                }
                walk.push(case.defresult(), visit);
            }
            Node::CoalesceExpr(coalesce) => {
                let later = coalesce.args().iter().skip(1);
                let decides = visit.predicate || self.any_runs_query(later)?;
                for argument in coalesce.args() {
                    walk.push_as(argument, visit, decides);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn sub_link<'n>(
        &mut self,
        link: &'n SubLink,
        visit: &Visit<'n>,
        walk: &mut Walk<'n>,
    ) -> Result<(), SqlRefusal> {
        let rows = self.query_node(link.subselect())?;
        if link.sub_link_type != SubLinkType::EXISTS_SUBLINK {
            self.spend(rows.columns.len())?;
            for column in &rows.columns {
                walk.add(&column.flow.clone().derived(), visit);
            }
            walk.add(&rows.rest.clone().derived(), visit);
        }
        for part in link.oper_name() {
            if let Some(name) = part.as_str() {
                walk.effects |= self.operator_name(name)?;
            }
        }
        walk.push(link.testexpr(), visit);
        Ok(())
    }

    fn function<'n>(
        &mut self,
        call: &'n FuncCall,
        visit: &Visit<'n>,
        walk: &mut Walk<'n>,
    ) -> Result<(), SqlRefusal> {
        let parts =
            tree::names(call.funcname()).ok_or(SqlRefusal::Unsupported("a function name"))?;
        if let Some(opened) = self.open(call, &parts)? {
            walk.add(&opened.whole(), visit);
            walk.rows |= self
                .catalog()
                .functions(parts.last().copied().unwrap_or_default())
                .iter()
                .any(|one| one.returns_set)
                && !opened.arguments.is_empty();
            walk.effects |= opened.writes;
            return Ok(());
        }
        walk.effects |= self.call_of(call, &parts)?;
        let name = parts.last().copied().unwrap_or_default();
        walk.rows |= self.call_is_partial(call, name)?;
        let functions = self
            .catalog()
            .functions(parts.last().copied().unwrap_or_default());
        walk.rows |= functions.is_empty() || functions.iter().any(|one| one.returns_set);
        let total = self.is_total(&parts);
        let own = functions.is_empty() || functions.iter().any(|one| &*one.schema != "pg_catalog");
        for (at, argument) in call.args().iter().enumerate() {
            match total {
                true => walk.push(argument, visit),
                false if !own && guards::chooses(name, at, call.args().len()) => {
                    walk.push_as(argument, visit, true)
                }
                false => walk.push_fragile(argument, visit),
            }
        }
        for order in call.agg_order() {
            walk.push_as(order.node(), visit, true);
            if !call.agg_within_group {
                // ORDER BY inside an aggregate also shapes what it returns.
                walk.push(order.node(), visit);
            } else {
                walk.push_as(order.node(), visit, false);
            }
        }
        walk.push_as(call.agg_filter(), visit, true);
        if let Some(window) = call.over() {
            push_window(window, visit, walk);
        }
        Ok(())
    }

    /// Classifies a call; settings read and set by functions count as SHOW and SET.
    pub(super) fn call_of(&mut self, call: &FuncCall, parts: &[&str]) -> Result<bool, SqlRefusal> {
        let name = parts.last().copied().unwrap_or_default();
        let built_in = parts.len() == 1 || parts.first() == Some(&"pg_catalog");
        if !built_in {
            return self.call(parts);
        }
        match functions::special(name) {
            Special::SetsConfig => {
                match self.setting_named(call.args().first()) {
                    Some(setting) => self.set_setting(&setting)?,
                    None => self.set_some_setting(call.args().first())?,
                }
                self.call(parts)
            }
            Special::ShowsConfig => {
                let setting = call.args().first().and_then(constant_text);
                let setting = setting.map_or_else(|| "?".to_owned(), |name| name.to_lowercase());
                self.touch_object("show", "Setting", &[&setting])?;
                let shadowed = self
                    .catalog()
                    .functions(name)
                    .iter()
                    .any(|function| &*function.schema != "pg_catalog");
                if shadowed {
                    self.call(parts)
                } else {
                    Ok(false)
                }
            }
            Special::None
            | Special::ReadsFile
            | Special::WritesFile
            | Special::LargeObject
            | Special::Notifies => {
                if parts.len() == 1
                    && self.catalog().functions(name).is_empty()
                    && call.args().len() == 1
                    && self.catalog().has_type_named(name)
                {
                    // `typename(x)` is a cast.
                    return Ok(false);
                }
                self.call(parts)
            }
        }
    }

    fn operator<'n>(
        &mut self,
        expr: &'n A_Expr,
        visit: &Visit<'n>,
        walk: &mut Walk<'n>,
    ) -> Result<(), SqlRefusal> {
        if let Some(name) = expr.name().iter().filter_map(Node::as_str).next_back() {
            walk.effects |= self.operator_name(name)?;
        }
        walk.rows |= self.operator_is_partial(expr);
        let decides = visit.predicate || visit.fragile && guards::compares(expr);
        let pattern = guards::is_pattern(expr);
        for (at, operand) in [expr.lexpr(), expr.rexpr()].into_iter().enumerate() {
            walk.push_as(operand, visit, decides || at > 0 && pattern);
            if let Some(visit) = walk.pending.last_mut() {
                visit.fragile |= !guards::joins_values(expr);
            }
        }
        Ok(())
    }

    /// Operators that are not built in run a function.
    fn operator_name(&mut self, name: &str) -> Result<bool, SqlRefusal> {
        let mut effects = false;
        for (schema, function) in self.catalog().operator_functions(name) {
            effects |= self.call(&[schema, function])?;
        }
        Ok(effects)
    }

    fn cast<'n>(
        &mut self,
        cast: &'n TypeCast,
        visit: &Visit<'n>,
        walk: &mut Walk<'n>,
    ) -> Result<(), SqlRefusal> {
        if let Some(name) = cast
            .type_name()
            .and_then(|name| name.names().iter().next_back())
            && let Some(name) = name.sval()
        {
            for (schema, function) in self.catalog().cast_functions_named(name) {
                walk.effects |= self.call(&[schema, function])?;
            }
        }
        walk.rows |= self.cast_is_partial(cast)?;
        if partial::is_total_type(cast) {
            walk.push(cast.arg(), visit);
        } else {
            walk.push_fragile(cast.arg(), visit);
        }
        Ok(())
    }

    /// A window of the WINDOW clause.
    pub(super) fn window(&mut self, window: &WindowDef) -> Result<(), SqlRefusal> {
        for part in window.partition_clause() {
            self.predicate(part)?;
        }
        for order in window.order_clause() {
            self.predicate(order.node())?;
        }
        self.predicate(window.start_offset())?;
        self.predicate(window.end_offset())?;
        Ok(())
    }
}

fn push_window<'n>(window: &'n WindowDef, visit: &Visit<'n>, walk: &mut Walk<'n>) {
    for part in window.partition_clause() {
        walk.push_as(part, visit, true);
    }
    for order in window.order_clause() {
        walk.push_as(order.node(), visit, true);
    }
    walk.push_as(window.start_offset(), visit, true);
    walk.push_as(window.end_offset(), visit, true);
}

fn literal(constant: &A_Const, visit: &Visit<'_>, walk: &mut Walk<'_>) {
    let known = matches!(
        constant.val(),
        Some(
            ConstValue::Integer(_)
                | ConstValue::Float(_)
                | ConstValue::String(_)
                | ConstValue::BitString(_)
        )
    );
    if known
        && let (Ok(at), Some(group)) = (
            usize::try_from(constant.location),
            walk.groups.get_mut(visit.group),
        )
    {
        group.literals.push(at);
    }
}

/// The text of a string constant, casts around it ignored.
pub(super) fn constant_text(node: Node<'_>) -> Option<String> {
    let mut node = node;
    while let Node::TypeCast(cast) = node {
        node = cast.arg();
    }
    let Node::A_Const(constant) = node else {
        return None;
    };
    match constant.val()? {
        ConstValue::String(text) => Some(text.to_owned()),
        _ => None,
    }
}
