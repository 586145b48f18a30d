//! A catalog from a schema's own text, for policy tests that run without a server.
//!
//! What every server has (`pg_catalog`, `information_schema`, built-in functions and types) comes
//! from lists that were taken from PostgreSQL 15; the rest from `CREATE` statements, such as
//! `pg_dump --schema-only` writes. Statements that change no meaning of a name are passed over.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar has 270 kinds of nodes; what a match does not name defines nothing here"
)]

use std::collections::HashMap;
use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{CreateFunctionStmt, CreateStmt, RangeVar, TypeName};
use pg_raw_parse::walk::walk;

use super::{Catalog, CatalogError, CatalogRows};
use crate::understand::{NameScope, SqlLimits, SqlRefusal, parsed, range_of, understand};

const FUNCTIONS: &str = include_str!("builtin/functions.txt");
const TYPES: &str = include_str!("builtin/types.txt");
const RELATIONS: &str = include_str!("builtin/relations.txt");

/// First OID for what a schema makes, as on a server.
const FIRST_OID: u32 = 16_384;
const TEXT: u32 = 25;

/// Why a schema's text makes no catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DdlError {
    #[error("the schema cannot be parsed: {0}")]
    Syntax(SqlRefusal),
    #[error("line {line} of the schema: {what}")]
    Statement { line: usize, what: String },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Reads `CREATE` statements; names without a schema are of `public`.
///
/// # Errors
/// [`DdlError`], with the line of the statement that is not understood.
pub fn from_ddl(sql: &str) -> Result<Catalog, DdlError> {
    // The library's typed lists panic on a node they do not expect.
    std::panic::catch_unwind(|| read(sql)).unwrap_or_else(|_panic| {
        Err(DdlError::Syntax(SqlRefusal::Unsupported(
            "a statement of that form",
        )))
    })
}

fn read(sql: &str) -> Result<Catalog, DdlError> {
    let sql = without_meta_commands(sql);
    let tree = parsed(&sql).map_err(DdlError::Syntax)?;
    let mut schema = Schema::builtin();
    for raw in tree.iter() {
        let at = range_of(&sql, raw.stmt_location, raw.stmt_len).start;
        schema
            .statement(raw.stmt())
            .map_err(|what| DdlError::Statement {
                line: sql.get(..at).unwrap_or_default().matches('\n').count() + 1,
                what,
            })?;
    }
    Ok(schema.catalog()?)
}

/// Lines for psql, such as `pg_dump` writes, become empty; the others keep their numbers.
fn without_meta_commands(sql: &str) -> String {
    let lines = sql
        .lines()
        .map(|line| if line.starts_with('\\') { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

type Row = Vec<Option<String>>;

fn row(cells: &[&str]) -> Row {
    cells.iter().map(|cell| Some((*cell).to_owned())).collect()
}

const fn flag(value: bool) -> &'static str {
    if value { "t" } else { "f" }
}

/// Rows as the catalog queries would give them.
struct Schema {
    schemas: Vec<Row>,
    relations: Vec<Row>,
    columns: Vec<Row>,
    views: Vec<Row>,
    inheritance: Vec<Row>,
    functions: Vec<Row>,
    types: Vec<Row>,
    type_oids: HashMap<String, u32>,
    /// (schema, name) → place in `relations`.
    known: HashMap<(String, String), usize>,
    next_oid: u32,
}

impl Schema {
    fn builtin() -> Self {
        let mut schema = Self {
            schemas: Vec::new(),
            relations: Vec::new(),
            columns: Vec::new(),
            views: Vec::new(),
            inheritance: Vec::new(),
            functions: Vec::new(),
            types: Vec::new(),
            type_oids: HashMap::new(),
            known: HashMap::new(),
            next_oid: FIRST_OID,
        };
        for name in ["public", "pg_catalog", "information_schema"] {
            schema.schemas.push(row(&[name]));
        }
        for line in FUNCTIONS.lines() {
            let (name, flags) = line.split_once(' ').unwrap_or((line, ""));
            let is = |letter| flag(flags.contains(letter));
            let cells = ["pg_catalog", name, is('v'), is('d'), is('s'), is('r')];
            schema.functions.push(row(&cells));
        }
        for line in TYPES.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let (oid, name, kind, base) = (next(), next(), next(), next());
            schema
                .types
                .push(row(&[oid, "pg_catalog", name, kind, base, "0"]));
            if let Ok(oid) = oid.parse() {
                schema.type_oids.insert(name.to_owned(), oid);
            }
        }
        for line in RELATIONS.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap_or_default();
            let (name, kind, oid) = (next(), next(), next());
            let (namespace, name) = name.split_once('.').unwrap_or(("pg_catalog", name));
            schema
                .relations
                .push(row(&[oid, namespace, name, kind, "f", "f"]));
            for (number, column) in (1..).zip(words) {
                let (name, kind) = column.split_once(':').unwrap_or((column, "25"));
                let number: i32 = number;
                schema
                    .columns
                    .push(row(&[oid, &number.to_string(), name, kind]));
            }
        }
        schema
    }

    fn catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::from_rows(&CatalogRows(vec![
            ("schemas", self.schemas.clone()),
            ("relations", self.relations.clone()),
            ("columns", self.columns.clone()),
            ("views", self.views.clone()),
            ("inheritance", self.inheritance.clone()),
            ("functions", self.functions.clone()),
            ("types", self.types.clone()),
            ("operators", Vec::new()),
            ("casts", Vec::new()),
        ]))
    }

    fn oid(&mut self) -> u32 {
        self.next_oid += 1;
        self.next_oid
    }

    fn statement(&mut self, node: Node<'_>) -> Result<(), String> {
        match node {
            Node::CreateSchemaStmt(create) => {
                let name = create.schemaname().unwrap_or_default();
                self.schemas.push(row(&[name]));
            }
            Node::CreateStmt(create) => self.table(create)?,
            Node::CreateSeqStmt(create) => {
                let oid = self.relation(create.sequence(), 'S')?;
                self.column(oid, 1, "last_value", 20);
            }
            Node::ViewStmt(view) => {
                let aliases: Vec<&str> = view
                    .aliases()
                    .into_iter()
                    .filter_map(Node::as_str)
                    .collect();
                self.view((view.view(), 'v'), view.query(), &aliases)?;
            }
            Node::CreateTableAsStmt(create) => {
                let into = create.into();
                let range = into.and_then(|into| into.rel());
                self.view((range, 'm'), create.query(), &[])?;
            }
            Node::CreateFunctionStmt(create) => self.function(create),
            Node::CreateTrigStmt(create) => self.mark(create.relation(), 4)?,
            Node::RuleStmt(rule) => self.mark(rule.relation(), 5)?,
            Node::CreateEnumStmt(create) => {
                let names: Vec<&str> = create
                    .type_name()
                    .iter()
                    .filter_map(|name| name.sval())
                    .collect();
                self.new_type(&names, 'e', 0);
            }
            Node::CreateDomainStmt(create) => {
                let names: Vec<&str> = create
                    .domainname()
                    .iter()
                    .filter_map(|name| name.sval())
                    .collect();
                let base = self.type_of(create.type_name());
                self.new_type(&names, 'd', base);
            }
            Node::AlterTableStmt(alter) => {
                let commands = alter.cmds().into_iter();
                let added: Vec<_> = commands
                    .filter_map(|command| match command {
                        Node::AlterTableCmd(command) => match command.def() {
                            Node::ColumnDef(column) => Some(column),
                            _ => None,
                        },
                        _ => None,
                    })
                    .collect();
                if !added.is_empty() {
                    let oid = self.oid_of(alter.relation())?;
                    for column in added {
                        let kind = self.type_of(column.type_name());
                        let number = self.width(&oid) + 1;
                        self.column(&oid, number, column.colname().unwrap_or_default(), kind);
                    }
                }
            }
            Node::DropStmt(_) => return Err("DROP: leave out what is not there".to_owned()),
            // Settings, comments, privileges, indexes, constraints, rows: no name means another thing.
            _ => {}
        }
        Ok(())
    }

    fn relation(&mut self, range: Option<&RangeVar>, kind: char) -> Result<String, String> {
        let (schema, name) = named(range)?;
        let oid = self.oid().to_string();
        let key = (schema.clone(), name.clone());
        if self.known.insert(key, self.relations.len()).is_some() {
            return Err(format!("{schema}.{name} is made twice"));
        }
        let kind = kind.to_string();
        self.relations
            .push(row(&[&oid, &schema, &name, &kind, "f", "f"]));
        Ok(oid)
    }

    fn place(&self, range: Option<&RangeVar>) -> Result<usize, String> {
        let (schema, name) = named(range)?;
        let key = (schema, name);
        self.known
            .get(&key)
            .copied()
            .ok_or_else(|| format!("{}.{} is not known here", key.0, key.1))
    }

    fn oid_of(&self, range: Option<&RangeVar>) -> Result<String, String> {
        let place = self.place(range)?;
        let oid = self.relations.get(place).and_then(|cells| cells.first());
        Ok(oid.cloned().flatten().unwrap_or_default())
    }

    /// Sets one of a relation's flags.
    fn mark(&mut self, range: Option<&RangeVar>, cell: usize) -> Result<(), String> {
        let place = self.place(range)?;
        let cells = self.relations.get_mut(place);
        if let Some(cell) = cells.and_then(|cells| cells.get_mut(cell)) {
            *cell = Some("t".to_owned());
        }
        Ok(())
    }

    fn width(&self, oid: &str) -> usize {
        let of = |cells: &&Row| {
            cells
                .first()
                .is_some_and(|cell| cell.as_deref() == Some(oid))
        };
        self.columns.iter().filter(of).count()
    }

    fn column(&mut self, oid: impl AsRef<str>, number: usize, name: &str, kind: u32) {
        let (number, kind) = (number.to_string(), kind.to_string());
        self.columns
            .push(row(&[oid.as_ref(), &number, name, &kind]));
    }

    fn table(&mut self, create: &CreateStmt) -> Result<(), String> {
        let kind = if create.partspec().is_some() {
            'p'
        } else {
            'r'
        };
        let mut inherited = Vec::new();
        for parent in create.inh_relations() {
            if let Node::RangeVar(parent) = parent {
                inherited.push(self.oid_of(Some(parent))?);
            }
        }
        let oid = self.relation(create.relation(), kind)?;
        let mut number = 0;
        for parent in inherited {
            let partition = flag(create.partbound().is_some());
            self.inheritance.push(row(&[&oid, &parent, partition]));
            number += self.copy_columns(&parent, &oid, number);
        }
        for element in create.table_elts() {
            match element {
                Node::ColumnDef(column) => {
                    number += 1;
                    let kind = self.type_of(column.type_name());
                    self.column(&oid, number, column.colname().unwrap_or_default(), kind);
                }
                Node::TableLikeClause(like) => {
                    let from = self.oid_of(like.relation())?;
                    number += self.copy_columns(&from, &oid, number);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn copy_columns(&mut self, from: &str, to: &str, after: usize) -> usize {
        let copied: Vec<Row> = self
            .columns
            .iter()
            .filter(|cells| {
                cells
                    .first()
                    .is_some_and(|cell| cell.as_deref() == Some(from))
            })
            .cloned()
            .collect();
        for (number, cells) in (after + 1..).zip(&copied) {
            let mut cells = cells.clone();
            if let [oid, attnum, ..] = cells.as_mut_slice() {
                *oid = Some(to.to_owned());
                *attnum = Some(number.to_string());
            }
            self.columns.push(cells);
        }
        copied.len()
    }

    fn view(
        &mut self,
        (range, kind): (Option<&RangeVar>, char),
        query: Node<'_>,
        aliases: &[&str],
    ) -> Result<(), String> {
        let definition = qualified(query).ok_or("a view without its query")?;
        let catalog = self.catalog().map_err(|error| error.to_string())?;
        let (target, database) = (Arc::from("t"), Arc::from("d"));
        let scope = NameScope {
            catalog: &catalog,
            target: &target,
            database: &database,
            search_path: &[Arc::from("pg_catalog")],
            role: "postgres",
            lenient: false,
            path_settled: true,
        };
        let statements = understand(&definition, &scope, &SqlLimits::default())
            .map_err(|refusal| refusal.to_string())?;
        let columns = statements
            .first()
            .and_then(|statement| statement.columns.as_ref())
            .ok_or("a view whose columns are not understood")?;
        let oid = self.relation(range, kind)?;
        for (at, column) in columns.iter().enumerate() {
            let name = aliases.get(at).copied().unwrap_or(&column.name);
            self.column(&oid, at + 1, name, TEXT);
        }
        self.views.push(row(&[&oid, &definition]));
        Ok(())
    }

    fn function(&mut self, create: &CreateFunctionStmt) {
        let parts: Vec<&str> = strings(create.funcname());
        let (schema, name) = match parts.as_slice() {
            [name] => ("public", *name),
            [.., schema, name] => (*schema, *name),
            [] => return,
        };
        let (mut volatile, mut definer) = (true, false);
        for option in create.options() {
            match option.defname() {
                Some("volatility") => volatile = option.arg().as_str() == Some("volatile"),
                Some("security") => {
                    definer = matches!(option.arg(), Node::Boolean(value) if value.boolval);
                }
                _ => {}
            }
        }
        let returned = create.return_type();
        let set = returned.is_some_and(|kind| kind.setof);
        let kind = returned
            .and_then(|kind| kind.names().iter().next_back())
            .and_then(|name| name.sval());
        let scalar = !create.is_procedure
            && kind.is_some_and(|kind| !["record", "trigger", "void"].contains(&kind))
            && returned.is_some_and(|kind| self.type_of(Some(kind)) < FIRST_OID);
        let cells = [
            schema,
            name,
            flag(volatile),
            flag(definer),
            flag(scalar),
            flag(set),
        ];
        self.functions.push(row(&cells));
    }

    fn new_type(&mut self, names: &[&str], kind: char, base: u32) {
        let (schema, name) = match names {
            [name] => ("public", *name),
            [.., schema, name] => (*schema, *name),
            [] => return,
        };
        let oid = self.oid();
        self.type_oids.insert(name.to_owned(), oid);
        let (oid, kind, base) = (oid.to_string(), kind.to_string(), base.to_string());
        self.types
            .push(row(&[&oid, schema, name, &kind, &base, "0"]));
    }

    /// `text` when the type is not known: only built-in types are treated in ways of their own.
    fn type_of(&self, name: Option<&TypeName>) -> u32 {
        let Some(name) = name else { return TEXT };
        let last = name.names().iter().next_back().and_then(|last| last.sval());
        let last = match last.unwrap_or("text") {
            "serial" => "int4",
            "bigserial" => "int8",
            "smallserial" => "int2",
            other => other,
        };
        let array = name.array_bounds().into_iter().next().is_some();
        let written = if array {
            format!("_{last}")
        } else {
            last.to_owned()
        };
        self.type_oids.get(&written).copied().unwrap_or(TEXT)
    }
}

fn strings(list: &NodeList) -> Vec<&str> {
    list.into_iter().filter_map(Node::as_str).collect()
}

fn named(range: Option<&RangeVar>) -> Result<(String, String), String> {
    let range = range.ok_or("a statement without its table")?;
    let name = range.relname().unwrap_or_default();
    let schema = range.schemaname().unwrap_or("public");
    Ok((schema.to_owned(), name.to_owned()))
}

/// The text of a query with `public.` before the names of tables that have no schema, as the
/// server writes it.
fn qualified(query: Node<'_>) -> Option<String> {
    let mut text = pg_raw_parse::deparse(query).ok()?.as_str().to_owned();
    let tree = parsed(&text).ok()?;
    let (mut places, mut within) = (Vec::new(), Vec::new());
    for statement in tree.stmts() {
        walk(statement, |node| match node {
            Node::RangeVar(range) if range.schemaname().is_none() => {
                let place = usize::try_from(range.location).ok();
                places.extend(place.zip(range.relname().map(str::to_owned)));
            }
            Node::CommonTableExpr(common) => within.extend(common.ctename().map(str::to_owned)),
            _ => {}
        });
    }
    places.sort();
    places.dedup();
    for (place, name) in places.iter().rev() {
        if !within.contains(name) && text.is_char_boundary(*place) {
            text.insert_str(*place, "public.");
        }
    }
    Some(text)
}
