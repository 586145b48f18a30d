//! One statement of a text: which class it is, what it touches, what the session must know.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use pg_raw_parse::nodes::{
    CreateTableAsStmt, ExecuteStmt, ExplainStmt, IntoClause, SelectStmt, TransactionStmt,
    VacuumStmt, VariableSetStmt,
};
use pg_raw_parse::raw::{DiscardMode, TransactionStmtKind, VariableSetKind};
use pg_raw_parse::{ConstValue, Node};
use weir_model::request::AttrValue;

use super::analyzer::{Analyzer, qualified};
use super::expr::constant_text;
use super::flow::{NO_COLUMN, Output, Rows};
use super::outcome::finish;
use super::path::Path;
use super::{Changes, NameScope, SqlLimits, SqlRefusal, Statement, StatementKind, Transaction};
use super::{altered, ddl, foreign, routine};

/// `CURSOR_OPT_HOLD` of PostgreSQL's parsenodes.h.
const CURSOR_HOLD: i32 = 0x0020;

/// What stays the same over all statements of a text.
pub(super) struct Context<'a> {
    pub(super) names: &'a NameScope<'a>,
    pub(super) limits: &'a SqlLimits,
    pub(super) sql: &'a str,
    /// An earlier statement of the text may have changed it.
    pub(super) path: Path,
    /// A name that nothing has is a variable of the function that runs the text.
    pub(super) variables: bool,
}

impl<'a> Context<'a> {
    pub(super) const fn new(sql: &'a str, names: &'a NameScope<'a>, limits: &'a SqlLimits) -> Self {
        Self {
            names,
            limits,
            sql,
            path: Path::Known,
            variables: false,
        }
    }
}

/// What a class of statement adds to the analysis.
pub(super) struct Class {
    pub(super) kind: StatementKind,
    pub(super) rows: Option<Rows>,
    pub(super) returns_rows: bool,
    pub(super) changes: Changes,
}

impl Class {
    pub(super) fn new(kind: StatementKind) -> Self {
        Self {
            kind,
            rows: None,
            returns_rows: false,
            changes: Changes::default(),
        }
    }

    fn text_row(kind: StatementKind, name: &str) -> Self {
        let mut output = Output::expression(Arc::from(name), super::flow::Flow::default());
        output.described = Some(NO_COLUMN);
        let rows = Rows {
            columns: vec![Arc::new(output)],
            ..Rows::default()
        };
        Self {
            kind,
            rows: Some(rows),
            returns_rows: true,
            changes: Changes::default(),
        }
    }
}

/// Understands one statement; relations that it creates are added to `created`.
pub(super) fn statement(
    context: &Context<'_>,
    node: Node<'_>,
    text: Range<usize>,
    created: &mut BTreeSet<String>,
    nested: usize,
) -> Result<Statement, SqlRefusal> {
    if nested > 3 {
        return Err(SqlRefusal::TooDeep);
    }
    let before = created.clone();
    let mut analyzer = Analyzer::new(context.names, context.limits, &before);
    analyzer.path.clone_from(&context.path);
    analyzer.session_path.clone_from(&context.path);
    if context.variables {
        analyzer.add_variables();
    }
    let inner = match inner_of(node) {
        Some(inner) => Some(statement(
            context,
            inner,
            text.clone(),
            created,
            nested + 1,
        )?),
        None => None,
    };
    let class = analyzer.class(node, inner, created)?;
    finish(context, analyzer, class, text)
}

/// The statement that EXPLAIN, PREPARE or DECLARE names.
fn inner_of(node: Node<'_>) -> Option<Node<'_>> {
    match node {
        Node::ExplainStmt(explain) => Some(explain.query()),
        Node::PrepareStmt(prepare) => Some(prepare.query()),
        Node::DeclareCursorStmt(declare) => Some(declare.query()),
        _ => None,
    }
}

impl Analyzer<'_> {
    fn class(
        &mut self,
        node: Node<'_>,
        inner: Option<Statement>,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        match node {
            Node::SelectStmt(select) => self.select_class(select, created),
            Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => {
                let rows = self.query_node(node)?;
                if self.returning {
                    // What comes back is read, like the rows of a SELECT.
                    self.read_out(&rows)?;
                }
                let mut class = Class::new(StatementKind::Write);
                class.returns_rows = self.returning;
                class.rows = self.returning.then_some(rows);
                Ok(class)
            }
            Node::ExplainStmt(explain) => self.explain_class(explain, inner),
            Node::PrepareStmt(prepare) => {
                let name: Arc<str> = Arc::from(prepare.name().unwrap_or_default());
                let inner = inner.ok_or(SqlRefusal::Unsupported("PREPARE of nothing"))?;
                self.take(&inner)?;
                self.touch_object("prepare", "Prepared", &[&name])?;
                Ok(Class::new(StatementKind::Prepare {
                    name,
                    inner: Box::new(inner),
                }))
            }
            Node::DeclareCursorStmt(declare) => {
                let name: Arc<str> = Arc::from(declare.portalname().unwrap_or_default());
                let inner = inner.ok_or(SqlRefusal::Unsupported("DECLARE of nothing"))?;
                self.take(&inner)?;
                self.touch_object("prepare", "Prepared", &[&name])?;
                let hold = declare.options & CURSOR_HOLD != 0;
                Ok(Class::new(StatementKind::Declare {
                    name,
                    hold,
                    inner: Box::new(inner),
                }))
            }
            Node::ExecuteStmt(execute) => {
                let name = self.execute(execute)?;
                let mut class = Class::new(StatementKind::Execute { name });
                class.returns_rows = true;
                Ok(class)
            }
            Node::CreateTableAsStmt(create) => self.create_as(create, created),
            Node::ViewStmt(view) => {
                let rows = self.query_node(view.query())?;
                self.use_up(&rows)?;
                let range = view.view();
                self.new_relation("create", range)?;
                self.remember(range, created);
                Ok(ddl_class())
            }
            Node::TransactionStmt(transaction) => self.transaction(transaction),
            Node::VariableSetStmt(set) => self.set(set),
            Node::VariableShowStmt(show) => self.show(show.name().unwrap_or_default()),
            Node::CopyStmt(copy) => self.copy(copy),
            node => self.plain_class(node, created),
        }
    }

    fn show(&mut self, setting: &str) -> Result<Class, SqlRefusal> {
        let name = setting.to_lowercase();
        self.touch_object("show", "Setting", &[&name])?;
        let kind = StatementKind::Show {
            name: Arc::from(name.as_str()),
        };
        if name != "all" {
            return Ok(Class::text_row(kind, setting));
        }
        let mut class = Class::text_row(kind, "name");
        for column in ["setting", "description"] {
            let output = Output::expression(Arc::from(column), super::flow::Flow::default());
            class
                .rows
                .get_or_insert_default()
                .columns
                .push(Arc::new(output));
        }
        Ok(class)
    }

    /// Statements of the session: cursors, prepared statements, procedures, messages.
    fn plain_class(
        &mut self,
        node: Node<'_>,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        let kind = match node {
            Node::DeallocateStmt(deallocate) => {
                self.touch_database("session")?;
                let name = (!deallocate.isall).then(|| deallocate.name().unwrap_or_default());
                StatementKind::Deallocate {
                    name: name.map(Arc::from),
                }
            }
            Node::FetchStmt(fetch) => {
                self.touch_database("session")?;
                let mut class = Class::new(StatementKind::Fetch {
                    name: Arc::from(fetch.portalname().unwrap_or_default()),
                    moves: fetch.ismove,
                });
                class.returns_rows = !fetch.ismove;
                return Ok(class);
            }
            Node::ClosePortalStmt(close) => {
                self.touch_database("session")?;
                StatementKind::Close {
                    name: close.portalname().map(Arc::from),
                }
            }
            Node::DiscardStmt(discard) => {
                self.touch_database("session")?;
                let all = discard.target == DiscardMode::DISCARD_ALL;
                let mut class = Class::new(StatementKind::Discard { all });
                class.changes.search_path = all || discard.target == DiscardMode::DISCARD_TEMP;
                class.changes.catalog = class.changes.search_path;
                class.changes.role = all;
                class.changes.resets = all;
                return Ok(class);
            }
            Node::CallStmt(call) => {
                if let Some(call) = call.funccall() {
                    self.read(Node::FuncCall(call))?;
                }
                self.called.effects = true;
                let mut class = Class::new(StatementKind::Call);
                // OUT arguments come back as a row whose shape is not known before it runs.
                class.returns_rows = true;
                return Ok(class);
            }
            Node::DoStmt(_) => {
                self.called.effects = true;
                self.touch_database("doBlock")?;
                let mut class = Class::new(StatementKind::Do);
                class.changes = Changes {
                    search_path: true,
                    catalog: true,
                    role: true,
                    ..Changes::default()
                };
                return Ok(class);
            }
            Node::ListenStmt(_) | Node::UnlistenStmt(_) => {
                self.touch_database("listen")?;
                StatementKind::Listen
            }
            Node::NotifyStmt(_) => {
                self.touch_database("notify")?;
                StatementKind::Notify
            }
            node => return self.other_class(node, created),
        };
        Ok(Class::new(kind))
    }

    /// Statements on whole tables or on the server; the rest is tried as DDL, then refused.
    fn other_class(
        &mut self,
        node: Node<'_>,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        let kind = match node {
            Node::TruncateStmt(truncate) => {
                self.writes = true;
                for relation in truncate.relations() {
                    if let Node::RangeVar(range) = relation {
                        self.named_relation("truncate", Some(range), false)?;
                    }
                }
                StatementKind::Write
            }
            Node::LockStmt(lock) => {
                for relation in lock.relations() {
                    if let Node::RangeVar(range) = relation {
                        self.named_relation("lock", Some(range), false)?;
                    }
                }
                StatementKind::Other
            }
            Node::ConstraintsSetStmt(_) => {
                self.touch_database("transaction")?;
                StatementKind::Transaction(Transaction::Characteristics)
            }
            Node::LoadStmt(load) => {
                self.called.effects = true;
                self.touch_object("readFile", "File", &[load.filename().unwrap_or("?")])?;
                StatementKind::Other
            }
            Node::VacuumStmt(vacuum) => self.vacuum(vacuum)?,
            Node::ClusterStmt(cluster) => {
                match cluster.relation() {
                    Some(range) => self.named_relation("maintenance", Some(range), false)?,
                    None => self.touch_database("maintenance")?,
                }
                StatementKind::Other
            }
            Node::ReindexStmt(reindex) => {
                match (reindex.relation(), reindex.name()) {
                    (Some(range), _) => self.named_relation("maintenance", Some(range), false)?,
                    (None, Some(name)) if reindex.kind == 2 => {
                        self.touch_object("maintenance", "Schema", &[name])?;
                    }
                    (None, _) => self.touch_database("maintenance")?,
                }
                StatementKind::Other
            }
            Node::RefreshMatViewStmt(refresh) => {
                self.writes = true;
                self.named_relation("maintenance", refresh.relation(), false)?;
                StatementKind::Other
            }
            Node::CheckPointStmt(_) => {
                self.touch_database("maintenance")?;
                StatementKind::Other
            }
            node => {
                if !self.ddl(node)? {
                    return Err(SqlRefusal::Unsupported("a statement of that kind"));
                }
                self.remember_created(node, created);
                return Ok(ddl_class());
            }
        };
        Ok(Class::new(kind))
    }

    fn vacuum(&mut self, vacuum: &VacuumStmt) -> Result<StatementKind, SqlRefusal> {
        if vacuum.rels().is_empty() {
            self.touch_database("maintenance")?;
        }
        for relation in vacuum.rels() {
            self.named_relation("maintenance", relation.relation(), false)?;
        }
        Ok(StatementKind::Other)
    }

    /// The outermost output is read.
    fn read_out(&mut self, rows: &Rows) -> Result<(), SqlRefusal> {
        for column in &rows.columns {
            self.touch_flow("readColumn", &column.flow)?;
        }
        self.touch_flow("readColumn", &rows.rest)
    }

    /// The output goes into a table, a file or a definition.
    pub(super) fn use_up(&mut self, rows: &Rows) -> Result<(), SqlRefusal> {
        for column in &rows.columns {
            self.flow_into(&column.flow, None)?;
        }
        self.flow_into(&rows.rest, None)
    }

    fn select_class(
        &mut self,
        select: &SelectStmt,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        let rows = self.query(select)?;
        let mut leftmost = select;
        while let Some(left) = leftmost.larg() {
            leftmost = left;
        }
        if let Some(into) = leftmost.into_clause() {
            return self.fill_table(into, &rows, created);
        }
        self.read_out(&rows)?;
        let kind = if self.writes {
            StatementKind::Write
        } else {
            StatementKind::Select
        };
        let mut class = Class::new(kind);
        class.returns_rows = true;
        class.rows = (!rows.open).then_some(rows);
        Ok(class)
    }

    fn fill_table(
        &mut self,
        into: &IntoClause,
        rows: &Rows,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        self.use_up(rows)?;
        self.new_relation("create", into.rel())?;
        self.remember(into.rel(), created);
        Ok(ddl_class())
    }

    fn create_as(
        &mut self,
        create: &CreateTableAsStmt,
        created: &mut BTreeSet<String>,
    ) -> Result<Class, SqlRefusal> {
        let into = create
            .into()
            .ok_or(SqlRefusal::Unsupported("CREATE TABLE AS without a table"))?;
        let Node::ExecuteStmt(execute) = create.query() else {
            let rows = self.query_node(create.query())?;
            return self.fill_table(into, &rows, created);
        };
        let name = self.execute(execute)?;
        self.writes = true;
        let rows = Rows {
            open: true,
            ..Rows::default()
        };
        Ok(Class {
            kind: StatementKind::FillByExecute { name },
            ..self.fill_table(into, &rows, created)?
        })
    }

    fn execute(&mut self, execute: &ExecuteStmt) -> Result<Arc<str>, SqlRefusal> {
        for parameter in execute.params() {
            // Where it goes in the statement is not seen when that is made.
            let flow = self.read(parameter)?;
            self.flow_into(&flow, None)?;
        }
        let name: Arc<str> = Arc::from(execute.name().unwrap_or_default());
        self.touch_object("execute", "Prepared", &[&name])?;
        Ok(name)
    }

    fn remember(
        &self,
        range: Option<&pg_raw_parse::nodes::RangeVar>,
        created: &mut BTreeSet<String>,
    ) {
        if let Some(range) = range {
            self.remember_named(range, range.relname().unwrap_or_default(), created);
        }
    }

    fn remember_named(
        &self,
        range: &pg_raw_parse::nodes::RangeVar,
        name: &str,
        created: &mut BTreeSet<String>,
    ) {
        let schema = self.new_schemas(range).first().copied().unwrap_or("?");
        created.insert(qualified(schema, name));
    }

    fn remember_created(&self, node: Node<'_>, created: &mut BTreeSet<String>) {
        if let Some(range) = altered::alters(node) {
            let name = range.relname().unwrap_or_default();
            // Whichever of that name it is.
            for relation in self.catalog().relations_named(name) {
                if range
                    .schemaname()
                    .is_none_or(|schema| *relation.schema == *schema)
                {
                    created.insert(qualified(&relation.schema, name));
                }
            }
        }
        match node {
            Node::CreateStmt(create) => self.remember(create.relation(), created),
            Node::Invalid(_) => {
                if let Some(create) = foreign::table(node) {
                    self.remember(create.relation(), created);
                }
            }
            Node::CreateSeqStmt(create) => self.remember(create.sequence(), created),
            Node::CreateSchemaStmt(create) => {
                let schema = ddl::schema_name(create);
                created.insert(qualified(&schema, ""));
                for range in create.schema_elts().iter().filter_map(ddl::made_by) {
                    created.insert(qualified(&schema, range.relname().unwrap_or_default()));
                }
            }
            Node::IndexStmt(index) => {
                if let (Some(name), Some(range)) = (index.idxname(), index.relation()) {
                    self.remember_named(range, name, created);
                }
            }
            Node::RenameStmt(rename) => {
                if let (Some(range), Some(name)) = (rename.relation(), rename.newname()) {
                    self.remember_named(range, name, created);
                }
                if let Node::ObjectWithArgs(function) = rename.object() {
                    routine::changes(function.objname(), rename.newname(), created);
                }
            }
            Node::AlterObjectSchemaStmt(moved) => {
                if let Node::ObjectWithArgs(function) = moved.object() {
                    routine::changes(function.objname(), None, created);
                }
            }
            _ => {}
        }
    }

    fn explain_class(
        &mut self,
        explain: &ExplainStmt,
        inner: Option<Statement>,
    ) -> Result<Class, SqlRefusal> {
        let analyze = explain
            .options()
            .iter()
            .any(|option| option.defname() == Some("analyze") && !is_false(option.arg()));
        let (mut executes, mut fills) = (None, false);
        let mut changes = Changes::default();
        if let Some(inner) = inner {
            self.take(&inner)?;
            executes = inner.kind.executes().cloned();
            fills = analyze && matches!(inner.kind, StatementKind::FillByExecute { .. });
            if analyze {
                changes = inner.changes;
            } else {
                self.writes = false;
            }
        }
        self.touch_database("explain")?;
        let kind = StatementKind::Explain {
            analyze,
            executes,
            fills,
        };
        Ok(Class {
            changes,
            ..Class::text_row(kind, "QUERY PLAN")
        })
    }

    /// Takes over what an inner statement would do.
    fn take(&mut self, inner: &Statement) -> Result<(), SqlRefusal> {
        for access in &inner.intent.accesses {
            let object = access.object.clone();
            self.touch(access.action, super::analyzer::Touched::Object(object))?;
        }
        for (name, value) in &inner.intent.context {
            match (*name, value) {
                ("unbounded", AttrValue::Bool(flag)) => self.unbounded |= flag,
                ("readOnly", AttrValue::Bool(flag)) => self.writes |= !flag,
                ("returning", AttrValue::Bool(flag)) => self.returning |= flag,
                ("hasUnknownFunction", AttrValue::Bool(flag)) => self.called.unknown |= flag,
                ("securityDefiner", AttrValue::Bool(flag)) => {
                    self.called.security_definer |= flag;
                }
                ("triggers", AttrValue::Bool(flag)) => self.triggers |= flag,
                ("limit", AttrValue::Long(count)) => self.limit = Some(*count),
                ("joins", AttrValue::Long(count)) => {
                    self.relations_read += usize::try_from(*count).unwrap_or(0) + 1;
                }
                _ => {}
            }
        }
        // What is run by name is not seen when it gets its values.
        self.pins |= inner.changes.session_pins || !inner.setting_parameters.is_empty();
        self.called.foreign |= inner.unseen;
        self.inner_diverted.extend(inner.diverted.iter().cloned());
        self.inner_literals
            .extend(inner.compared_literals.iter().cloned());
        self.inner_parameters
            .extend(inner.compared_parameters.iter().cloned());
        Ok(())
    }

    fn transaction(&mut self, transaction: &TransactionStmt) -> Result<Class, SqlRefusal> {
        let kind = match transaction.kind {
            TransactionStmtKind::TRANS_STMT_BEGIN | TransactionStmtKind::TRANS_STMT_START => {
                Transaction::Begin
            }
            TransactionStmtKind::TRANS_STMT_COMMIT => Transaction::Commit,
            TransactionStmtKind::TRANS_STMT_ROLLBACK => Transaction::Rollback,
            TransactionStmtKind::TRANS_STMT_SAVEPOINT => Transaction::Savepoint,
            TransactionStmtKind::TRANS_STMT_RELEASE => Transaction::Release,
            TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Transaction::RollbackTo,
            TransactionStmtKind::TRANS_STMT_PREPARE => Transaction::Prepare,
            TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => Transaction::CommitPrepared,
            TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => Transaction::RollbackPrepared,
            _ => return Err(SqlRefusal::Unsupported("that transaction command")),
        };
        let two_phase = matches!(
            kind,
            Transaction::Prepare | Transaction::CommitPrepared | Transaction::RollbackPrepared
        );
        self.touch_database(if two_phase { "twoPhase" } else { "transaction" })?;
        let mut class = Class::new(StatementKind::Transaction(kind));
        // Ends of transactions undo SET, SET LOCAL and DDL.
        let ends = !matches!(
            kind,
            Transaction::Begin | Transaction::Savepoint | Transaction::Release
        );
        class.changes = Changes {
            search_path: ends,
            role: ends,
            catalog: kind == Transaction::CommitPrepared,
            writable: begins_writable(transaction.options()),
            ..Changes::default()
        };
        Ok(class)
    }

    fn set(&mut self, set: &VariableSetStmt) -> Result<Class, SqlRefusal> {
        let name = set.name().unwrap_or_default().to_lowercase();
        let resets = matches!(
            set.kind,
            VariableSetKind::VAR_RESET | VariableSetKind::VAR_SET_DEFAULT
        );
        let kind = StatementKind::Set {
            name: Arc::from(name.as_str()),
        };
        match (set.kind, name.as_str()) {
            (VariableSetKind::VAR_SET_MULTI, _) => {
                self.touch_database("transaction")?;
                let mut class =
                    Class::new(StatementKind::Transaction(Transaction::Characteristics));
                class.changes.writable = begins_writable(set.args());
                return Ok(class);
            }
            (VariableSetKind::VAR_RESET_ALL, _) => {
                self.touch_object("set", "Setting", &["all"])?;
                let mut class = Class::new(StatementKind::Set {
                    name: Arc::from("all"),
                });
                class.changes.search_path = true;
                class.changes.role = true;
                class.changes.resets = true;
                return Ok(class);
            }
            (_, "role" | "session_authorization") => {
                let role = set.args().first().and_then(constant_text);
                let role = match role {
                    Some(role) if !resets => role,
                    _ => "none".to_owned(),
                };
                self.touch_object("setRole", "Role", &[&role])?;
                self.settings.push(Arc::from(name.as_str()));
            }
            _ => self.set_setting(&name)?,
        }
        if name == "client_encoding" || name == "standard_conforming_strings" {
            self.pins = !keeps_pin(set, &name);
        }
        if stays_read_only(set) {
            self.writable = false;
        }
        Ok(Class::new(kind))
    }
}

/// Setting a pinned setting to the value it has is harmless: drivers do it on every connect. So is
/// its default, which every session starts with.
fn keeps_pin(set: &VariableSetStmt, name: &str) -> bool {
    if matches!(
        set.kind,
        VariableSetKind::VAR_RESET | VariableSetKind::VAR_SET_DEFAULT
    ) {
        return true;
    }
    if set.kind != VariableSetKind::VAR_SET_VALUE || set.args().len() != 1 {
        return false;
    }
    let Some(value) = set.args().first().and_then(constant_text) else {
        return false;
    };
    let value = value.to_lowercase();
    match name {
        "client_encoding" => super::is_utf8(&value),
        _ => value == "on",
    }
}

/// `transaction_read_only` and its default may be switched on, not off.
fn stays_read_only(set: &VariableSetStmt) -> bool {
    let [value] = set.args().iter().collect::<Vec<_>>()[..] else {
        return false;
    };
    let value = constant_text(value).unwrap_or_default().to_lowercase();
    set.kind == VariableSetKind::VAR_SET_VALUE && matches!(value.as_str(), "on" | "true" | "yes")
}

/// READ WRITE among a transaction's modes.
fn begins_writable(modes: &pg_raw_parse::list::NodeList) -> bool {
    modes.iter().any(|mode| match mode {
        Node::DefElem(mode) => {
            mode.defname() == Some("transaction_read_only") && !is_true(mode.arg())
        }
        _ => true,
    })
}

fn is_true(node: Node<'_>) -> bool {
    match node {
        Node::A_Const(constant) => matches!(
            constant.val(),
            Some(ConstValue::Integer(1) | ConstValue::Boolean(true))
        ),
        Node::Integer(number) => number.ival == 1,
        Node::Boolean(flag) => flag.boolval,
        _ => false,
    }
}

fn ddl_class() -> Class {
    let mut class = Class::new(StatementKind::Ddl);
    class.changes.catalog = true;
    class
}

fn is_false(node: Node<'_>) -> bool {
    match node {
        Node::String(text) => matches!(
            text.sval().unwrap_or_default().to_lowercase().as_str(),
            "off" | "false" | "no" | "0"
        ),
        Node::Integer(number) => number.ival == 0,
        Node::Boolean(flag) => !flag.boolval,
        _ => false,
    }
}
