//! The state of one statement's analysis, and what it has found so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pg_raw_parse::nodes::RangeVar;
use weir_model::request::{Access, Object};

use super::flow::{ColumnId, Flow, Output, Rows};
use super::functions::{self, Special};
use super::path::Path;
use super::routine::Arguments;
use super::{NameScope, SqlLimits, SqlRefusal};
use crate::catalog::{Catalog, Relation};

/// Something in FROM that names can refer to.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Alias or name; empty when it has none.
    pub(super) name: Arc<str>,
    /// Schema of a relation that is named without an alias.
    pub(super) schema: Option<Arc<str>>,
    pub(super) columns: Vec<Arc<Output>>,
    /// Can be used as `name.column`.
    pub(super) name_visible: bool,
    /// Its columns can be used without a qualifier and are in `*`.
    pub(super) columns_visible: bool,
    /// It has columns that are not known: any name may be one of them.
    pub(super) open: bool,
    /// As `open` for names, while `*` is known.
    pub(super) loose: bool,
    /// Flow of columns that are not known.
    pub(super) rest: Flow,
    /// A relation of the catalog (system columns exist).
    pub(super) relation: u32,
}

impl Item {
    pub(super) fn new(name: Arc<str>, columns: Vec<Arc<Output>>) -> Self {
        Self {
            name,
            schema: None,
            columns,
            name_visible: true,
            columns_visible: true,
            open: false,
            loose: false,
            rest: Flow::default(),
            relation: 0,
        }
    }

    /// Everything in it.
    pub(super) fn whole(&self) -> Flow {
        let mut flow = self.rest.clone();
        for column in &self.columns {
            flow.join(&column.flow);
        }
        flow.derived()
    }
}

/// The names of one query level.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) items: Vec<Item>,
    /// The one setting whose row of `pg_settings` the query reads.
    pub(super) setting: Option<String>,
    /// A sub-query in FROM without LATERAL does not see its siblings.
    pub(super) hidden: bool,
}

/// A common table expression in scope.
#[derive(Debug)]
pub(super) struct Cte {
    pub(super) name: Arc<str>,
    /// `None` while it may not be referred to yet.
    pub(super) rows: Option<Rows>,
}

/// An object before its path is written out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    Relation(u32),
    Column(ColumnId),
    Object(Object),
}

/// What a view does when it is read, found once per snapshot.
#[derive(Debug)]
pub(crate) struct ViewLineage {
    pub(super) columns: Vec<Arc<Output>>,
    pub(super) touched: Vec<(&'static str, Touched)>,
    pub(super) called: Called,
}

/// Properties of the functions called so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Called {
    pub(super) unknown: bool,
    pub(super) security_definer: bool,
    /// At least one is not known to be harmless.
    pub(super) effects: bool,
    /// At least one is not built in: its body may change the session.
    pub(super) foreign: bool,
}

/// What a reference stands for.
pub(super) enum Named<'a> {
    Known(&'a Relation),
    /// Created earlier in the same text.
    Created(Object),
}

/// Analysis of one statement.
pub(super) struct Analyzer<'a> {
    pub(super) names: &'a NameScope<'a>,
    /// The session's own: in a view names mean what they meant when it was made, in a function's body
    /// what they mean where it is called.
    pub(super) session: &'a NameScope<'a>,
    pub(super) limits: &'a SqlLimits,
    /// Relations created by earlier statements of the text.
    pub(super) created: &'a BTreeSet<String>,
    /// The schema that is being created with its elements, and their names so far.
    pub(super) making: Option<(String, BTreeSet<String>)>,
    pub(super) touched: BTreeSet<(&'static str, Touched)>,
    pub(super) levels: Vec<Level>,
    pub(super) ctes: Vec<Cte>,
    pub(super) called: Called,
    pub(super) diverted: BTreeSet<ColumnId>,
    /// Byte offset in the text → columns it is compared with.
    pub(super) literals: BTreeMap<usize, BTreeSet<ColumnId>>,
    pub(super) parameters: BTreeSet<(u16, ColumnId)>,
    pub(super) nesting: usize,
    pub(super) work: usize,
    pub(super) relations_read: usize,
    pub(super) writes: bool,
    pub(super) triggers: bool,
    pub(super) unbounded: bool,
    pub(super) returning: bool,
    pub(super) limit: Option<i64>,
    pub(super) settings: Vec<Arc<str>>,
    pub(super) setting_parameters: BTreeSet<u16>,
    pub(super) pins: bool,
    /// A setting is changed that keeps transactions from writing.
    pub(super) writable: bool,
    pub(super) path: Path,
    /// The same of the session, by which bodies of functions go within views.
    pub(super) session_path: Path,
    /// What an inner statement (PREPARE, EXPLAIN, DECLARE) brought along.
    pub(super) inner_diverted: Vec<Object>,
    pub(super) inner_literals: Vec<(std::ops::Range<usize>, Object)>,
    pub(super) inner_parameters: Vec<(u16, Object)>,
    /// Within the body of a function: what it was called with.
    pub(super) arguments: Option<Arguments>,
    /// Bodies of functions within bodies of functions.
    pub(super) opened: usize,
    /// Offsets mean nothing and predicates are not the agent's inside a view's definition.
    pub(super) in_view: bool,
    /// The views that are being opened, from the outermost one.
    pub(super) within_views: Vec<u32>,
    /// The body of a function was opened, which goes by the session's path.
    pub(super) within_session: bool,
}

impl<'a> Analyzer<'a> {
    pub(super) fn new(
        names: &'a NameScope<'a>,
        limits: &'a SqlLimits,
        created: &'a BTreeSet<String>,
    ) -> Self {
        Self {
            names,
            session: names,
            limits,
            created,
            making: None,
            touched: BTreeSet::new(),
            levels: Vec::new(),
            ctes: Vec::new(),
            called: Called::default(),
            diverted: BTreeSet::new(),
            literals: BTreeMap::new(),
            parameters: BTreeSet::new(),
            nesting: 0,
            work: 0,
            relations_read: 0,
            writes: false,
            triggers: false,
            unbounded: false,
            returning: false,
            limit: None,
            settings: Vec::new(),
            setting_parameters: BTreeSet::new(),
            pins: false,
            writable: false,
            path: Path::Known,
            session_path: Path::Known,
            inner_diverted: Vec::new(),
            inner_literals: Vec::new(),
            inner_parameters: Vec::new(),
            arguments: None,
            opened: 0,
            in_view: false,
            within_views: Vec::new(),
            within_session: false,
        }
    }

    /// Outside of everything: something that has every name, and holds nothing of a table.
    pub(super) fn add_variables(&mut self) {
        let mut item = Item::new("".into(), Vec::new());
        item.open = true;
        self.levels.push(Level {
            items: vec![item],
            ..Default::default()
        });
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.names.catalog
    }

    /// Counts work against the limit.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), SqlRefusal> {
        self.work = self.work.saturating_add(steps);
        if self.work > self.limits.work_max {
            return Err(SqlRefusal::TooComplex);
        }
        Ok(())
    }

    /// Goes one query level down; the caller gives it back with [`Self::leave`].
    pub(super) fn enter(&mut self) -> Result<(), SqlRefusal> {
        self.nesting += 1;
        if self.nesting > self.limits.nesting_max {
            return Err(SqlRefusal::TooDeep);
        }
        self.spend(1)
    }

    pub(super) fn leave(&mut self) {
        self.nesting -= 1;
    }

    pub(super) fn touch(&mut self, action: &'static str, what: Touched) -> Result<(), SqlRefusal> {
        self.touched.insert((action, what));
        if self.touched.len() > self.limits.accesses_max {
            return Err(SqlRefusal::TooManyAccesses);
        }
        Ok(())
    }

    pub(super) fn touch_object(
        &mut self,
        action: &'static str,
        kind: &'static str,
        path: &[&str],
    ) -> Result<(), SqlRefusal> {
        let object = self.object(kind, path);
        self.touch(action, Touched::Object(object))
    }

    /// An access on the database itself.
    pub(super) fn touch_database(&mut self, action: &'static str) -> Result<(), SqlRefusal> {
        self.touch_object(action, "Database", &[])
    }

    /// An access on every column of `flow`.
    pub(super) fn touch_flow(
        &mut self,
        action: &'static str,
        flow: &Flow,
    ) -> Result<(), SqlRefusal> {
        if self.in_view {
            // The view's author chose these; what reaches the agent is recorded where it is used.
            return Ok(());
        }
        self.spend(flow.len())?;
        for (id, _) in flow.iter() {
            self.touch(action, Touched::Column(id))?;
        }
        Ok(())
    }

    /// Values of `flow` leave for somewhere that no mask reaches.
    pub(super) fn divert(&mut self, flow: &Flow) {
        self.diverted.extend(flow.iter().map(|(id, _)| id));
    }

    /// An access on a table or view, its ancestors included, so that a rule on a partitioned
    /// table also holds for its partitions.
    pub(super) fn touch_relation(
        &mut self,
        action: &'static str,
        relation: &'a Relation,
    ) -> Result<(), SqlRefusal> {
        self.touch(action, Touched::Relation(relation.oid))?;
        for ancestor in self.relatives(relation)? {
            self.touch(action, Touched::Relation(ancestor.oid))?;
        }
        Ok(())
    }

    /// Ancestors by inheritance or partitioning, and heirs by inheritance.
    pub(super) fn relatives(
        &mut self,
        relation: &'a Relation,
    ) -> Result<Vec<&'a Relation>, SqlRefusal> {
        let mut found: Vec<&'a Relation> = Vec::new();
        let (mut up, mut down) = (relation.parents.clone(), relation.heirs.clone());
        while let Some((oid, ascends)) = up
            .pop()
            .map(|oid| (oid, true))
            .or_else(|| down.pop().map(|oid| (oid, false)))
        {
            self.spend(1)?;
            let Some(relative) = self.catalog().relation(oid) else {
                continue;
            };
            if found.iter().any(|known| known.oid == oid) {
                continue;
            }
            found.push(relative);
            if ascends {
                up.extend(&relative.parents);
            } else {
                down.extend(&relative.heirs);
                // What an heir has of other parents is read with it.
                up.extend(relative.parents.iter().filter(|oid| **oid != relation.oid));
            }
        }
        Ok(found)
    }

    /// Finds a relation as the server would.
    pub(super) fn find(&mut self, range: &RangeVar) -> Result<Named<'a>, SqlRefusal> {
        let name = range.relname().unwrap_or_default();
        self.find_name(range.catalogname(), range.schemaname(), name)
    }

    pub(super) fn find_name(
        &mut self,
        database: Option<&str>,
        schema: Option<&str>,
        name: &str,
    ) -> Result<Named<'a>, SqlRefusal> {
        if database.is_some_and(|database| database != &**self.names.database) {
            return Err(SqlRefusal::Unsupported("a reference to another database"));
        }
        if let Some((making, made)) = &self.making
            && schema.is_none_or(|schema| schema == making)
            && made.contains(name)
        {
            return Ok(Named::Created(self.object("Table", &[making, name])));
        }
        if schema.is_none() && !self.path.is_known() {
            return self.find_in_reach(name);
        }
        let names = self.names;
        let found = match schema {
            Some("pg_temp") => names
                .search_path
                .iter()
                .filter(|schema| schema.starts_with("pg_temp_"))
                .find_map(|schema| names.catalog.relation_in(schema, name)),
            Some(schema) => names.catalog.relation_in(schema, name),
            None => {
                effective_path(names).find_map(|schema| names.catalog.relation_in(schema, name))
            }
        };
        if let Some(relation) = found {
            return Ok(Named::Known(relation));
        }
        let candidates = match schema {
            Some(schema) => [schema, schema],
            None => ["pg_temp", self.creation_schema()],
        };
        for schema in candidates {
            if self.created.contains(&qualified(schema, name)) {
                return Ok(Named::Created(self.object("Table", &[schema, name])));
            }
        }
        Err(SqlRefusal::UnknownRelation(name.to_owned()))
    }

    /// Where a new object without a schema would go.
    pub(super) fn creation_schema(&self) -> &'a str {
        self.names
            .search_path
            .iter()
            .find(|schema| !schema.starts_with("pg_temp") && &***schema != "pg_catalog")
            .map_or("?", |schema| &**schema)
    }

    pub(super) fn object(&self, kind: &'static str, path: &[&str]) -> Object {
        let mut segments = vec![
            Arc::clone(self.names.target),
            Arc::clone(self.names.database),
        ];
        segments.extend(path.iter().map(|segment| Arc::from(*segment)));
        Object {
            kind,
            path: segments.into(),
        }
    }

    pub(super) fn relation_object(&self, relation: &Relation) -> Object {
        Object {
            kind: "Table",
            path: [
                self.names.target,
                self.names.database,
                &relation.schema,
                &relation.name,
            ]
            .map(Arc::clone)
            .into(),
        }
    }

    pub(super) fn column_object(&self, id: ColumnId) -> Option<Object> {
        let (relation, column) = self.catalog().column(id.relation, id.attnum)?;
        Some(Object {
            kind: "Column",
            path: [
                self.names.target,
                self.names.database,
                &relation.schema,
                &relation.name,
                &column.name,
            ]
            .map(Arc::clone)
            .into(),
        })
    }

    /// All accesses, written out.
    pub(super) fn accesses(&self) -> Vec<Access> {
        self.touched
            .iter()
            .filter_map(|(action, touched)| {
                let object = match touched {
                    Touched::Relation(oid) => self.relation_object(self.catalog().relation(*oid)?),
                    Touched::Column(id) => self.column_object(*id)?,
                    Touched::Object(object) => object.clone(),
                };
                Some(Access { action, object })
            })
            .collect()
    }

    /// Records the call of a function and classifies it.
    ///
    /// Returns whether it may have effects.
    pub(super) fn call(&mut self, parts: &[&str]) -> Result<bool, SqlRefusal> {
        let (schema, name) = match parts {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            [database, schema, name] if *database == &**self.names.database => {
                (Some(*schema), *name)
            }
            _ => return Err(SqlRefusal::Unsupported("a function name of that form")),
        };
        let names = self.names;
        let mut any = false;
        let mut effects = false;
        for function in names.catalog.functions(name) {
            let visible = match schema {
                Some(schema) => &*function.schema == schema,
                None => {
                    !self.path.is_known()
                        || effective_path(names).any(|schema| *schema == *function.schema)
                }
            };
            if !visible {
                continue;
            }
            any = true;
            let built_in = matches!(&*function.schema, "pg_catalog" | "information_schema");
            if built_in && functions::is_harmless(name, function.volatile) {
                continue;
            }
            effects = true;
            self.called.security_definer |= function.security_definer;
            self.called.foreign |= !built_in;
            self.touch_object("call", "Function", &[&function.schema, name])?;
            if built_in {
                self.special(name)?;
            }
        }
        if !any {
            effects = true;
            self.called.unknown = true;
            self.called.foreign = true;
            self.touch_object("callUnknown", "Function", &[schema.unwrap_or("?"), name])?;
        }
        self.called.effects |= effects;
        Ok(effects)
    }

    fn special(&mut self, name: &str) -> Result<(), SqlRefusal> {
        match functions::special(name) {
            Special::None | Special::SetsConfig | Special::ShowsConfig => Ok(()),
            Special::ReadsFile => self.touch_object("readFile", "File", &["?"]),
            Special::WritesFile => self.touch_object("writeFile", "File", &["?"]),
            Special::LargeObject => self.touch_database("largeObject"),
            Special::Notifies => self.touch_database("notify"),
        }
    }
}

/// The schemas searched for a name without one, in order. Where `pg_catalog` is listed the path is all
/// that the server searches, temporary tables in their place (`current_schemas(true)`); else it
/// searches temporary tables first, then `pg_catalog`.
pub(super) fn effective_path<'a>(names: &NameScope<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let path = names.search_path;
    let listed = path.iter().any(|schema| &**schema == "pg_catalog");
    let is_temporary = |schema: &&Arc<str>| schema.starts_with("pg_temp_");
    let first = path
        .iter()
        .filter(move |schema| !listed && is_temporary(schema));
    let rest = path
        .iter()
        .filter(move |schema| listed || !is_temporary(schema));
    first
        .map(|schema| &**schema)
        .chain((!listed).then_some("pg_catalog"))
        .chain(rest.map(|schema| &**schema))
}

/// Key of a relation that the text itself created.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{schema}\u{0}{name}")
}
