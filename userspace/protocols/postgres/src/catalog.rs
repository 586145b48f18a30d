//! An immutable snapshot of one database's catalog: what names mean.

mod bodies;
mod ddl;
mod live;
mod load;
mod queries;
mod seen;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::understand::ViewLineage;

pub use ddl::{DdlError, from_ddl};
pub use live::LIVE_QUERIES;
pub use load::{CatalogError, CatalogRows};
pub use queries::{CATALOG_QUERIES, CatalogQuery};
pub use seen::Definitions;

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    PartitionedTable,
    View,
    MaterializedView,
    ForeignTable,
    Sequence,
    Index,
    Composite,
    Other,
}

/// A column of a relation; dropped and system columns are not listed.
#[derive(Clone, Debug)]
pub struct Column {
    pub attnum: i16,
    pub name: Arc<str>,
    pub type_oid: u32,
    /// Attribute numbers of the columns that a generated one is computed from.
    pub computed_from: Vec<i16>,
}

/// A table, view or other relation.
#[derive(Debug)]
pub struct Relation {
    pub oid: u32,
    pub schema: Arc<str>,
    pub name: Arc<str>,
    pub kind: RelationKind,
    /// By attribute number.
    pub columns: Vec<Column>,
    /// The text of a view's or materialised view's query, all names qualified.
    pub definition: Option<Arc<str>>,
    /// Relations it inherits from or is a partition of.
    pub parents: Vec<u32>,
    /// Relations that inherit from it (partitions not included).
    pub heirs: Vec<u32>,
    /// Whether enabled user triggers run when it is written.
    pub triggers: bool,
    /// Whether rewrite rules other than a view's own change what a statement on it does.
    pub rules: bool,
    /// What reading a view does, found at its first use.
    pub(crate) lineage: OnceLock<Arc<ViewLineage>>,
}

impl Relation {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// The column of that attribute number.
    #[must_use]
    pub fn attribute(&self, attnum: i16) -> Option<&Column> {
        let at = self
            .columns
            .binary_search_by_key(&attnum, |column| column.attnum)
            .ok()?;
        self.columns.get(at)
    }
}

/// All functions of one name in one schema, taken together.
#[derive(Clone, Debug)]
pub struct Function {
    pub schema: Arc<str>,
    pub name: Arc<str>,
    /// Whether any of them is volatile.
    pub volatile: bool,
    pub security_definer: bool,
    /// Whether all of them return one scalar value of a built-in kind (no record, no composite).
    pub scalar: bool,
    /// Whether any of them returns a set: its arguments decide how many rows there are.
    pub returns_set: bool,
}

/// A function whose body is SQL, without settings of its own: it can be opened.
#[derive(Clone, Debug)]
pub struct SqlFunction {
    pub schema: Arc<str>,
    pub name: Arc<str>,
    pub body: SqlBody,
    /// Names of what goes in, empty where there is none.
    pub inputs: Vec<Arc<str>>,
    /// Names of what comes out, where they are declared.
    pub outputs: Vec<Arc<str>>,
    /// Relation of the composite type that it returns, else 0.
    pub relation: u32,
}

/// What a SQL function does.
#[derive(Clone, Debug)]
pub enum SqlBody {
    /// Statements, which each call reads with the path of its session.
    Source(Arc<str>),
    /// `BEGIN ATOMIC` or `RETURN`, as `pg_get_functiondef` gives it with nothing but `pg_catalog` on the
    /// path: what its names stand for was settled when it was made.
    Definition(Arc<str>),
}

/// A type.
#[derive(Clone, Debug)]
pub struct Type {
    pub oid: u32,
    pub schema: Arc<str>,
    pub name: Arc<str>,
    /// `b` base, `c` composite, `d` domain, `e` enum, `p` pseudo, `r` range, `m` multirange.
    pub kind: char,
    /// Base type of a domain, element type of an array, else 0.
    pub base: u32,
    /// Relation of a composite type, else 0.
    pub relation: u32,
}

/// Schema and name of a function.
pub type FunctionName = (Arc<str>, Arc<str>);

/// What one role sees of one database.
#[derive(Debug)]
pub struct Catalog {
    generation: u64,
    /// Of one session: the snapshot whose server's own objects it has.
    base: Option<u64>,
    relations: Vec<Relation>,
    by_oid: HashMap<u32, u32>,
    by_name: HashMap<Arc<str>, Vec<u32>>,
    functions: HashMap<Arc<str>, Vec<Function>>,
    function_oids: HashMap<u32, FunctionName>,
    sql_functions: HashMap<FunctionName, SqlFunction>,
    types: HashMap<u32, Type>,
    type_names: HashMap<Arc<str>, Vec<u32>>,
    operators: HashMap<Arc<str>, Vec<FunctionName>>,
    casts: HashMap<u32, Vec<FunctionName>>,
    schemas: Vec<Arc<str>>,
}

impl Catalog {
    /// Reads what [`CATALOG_QUERIES`] returned.
    ///
    /// # Errors
    /// [`CatalogError`] when rows are missing, malformed or more than the limits.
    pub fn from_rows(rows: &CatalogRows) -> Result<Self, CatalogError> {
        load::load(rows)
    }

    /// Digest of the content: equal snapshots have equal generations.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every relation.
    pub fn relations(&self) -> impl Iterator<Item = &Relation> {
        self.relations.iter()
    }

    /// The relation of that OID.
    #[must_use]
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(*self.by_oid.get(&oid)? as usize)
    }

    /// The relation and column that a `RowDescription` names.
    #[must_use]
    pub fn column(&self, table_oid: u32, attnum: i16) -> Option<(&Relation, &Column)> {
        let relation = self.relation(table_oid)?;
        Some((relation, relation.attribute(attnum)?))
    }

    /// The relation of that name in that schema.
    #[must_use]
    pub fn relation_in(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations_named(name)
            .find(|relation| &*relation.schema == schema)
    }

    /// The relations of that name, of whatever schema.
    pub fn relations_named(&self, name: &str) -> impl Iterator<Item = &Relation> {
        let places = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .filter_map(|at| self.relations.get(*at as usize))
    }

    /// All functions of that name, one entry for each schema.
    #[must_use]
    pub fn functions(&self, name: &str) -> &[Function] {
        self.functions.get(name).map_or(&[], Vec::as_slice)
    }

    /// Schema and name of the function of that OID.
    #[must_use]
    pub fn function_of(&self, oid: u32) -> Option<&FunctionName> {
        self.function_oids.get(&oid)
    }

    /// The body of a function, if it is the only one of its name in its schema and is SQL.
    #[must_use]
    pub fn sql_function(&self, schema: &Arc<str>, name: &Arc<str>) -> Option<&SqlFunction> {
        self.sql_functions
            .get(&(Arc::clone(schema), Arc::clone(name)))
    }

    /// The type of that OID.
    #[must_use]
    pub fn type_of(&self, oid: u32) -> Option<&Type> {
        self.types.get(&oid)
    }

    /// Functions (schema, name) behind operators of that name that are not built in.
    #[must_use]
    pub fn operator_functions(&self, name: &str) -> &[FunctionName] {
        self.operators.get(name).map_or(&[], Vec::as_slice)
    }

    /// Functions (schema, name) behind casts to that type that are not built in.
    #[must_use]
    pub fn cast_functions(&self, type_oid: u32) -> &[FunctionName] {
        self.casts.get(&type_oid).map_or(&[], Vec::as_slice)
    }

    /// Whether some schema has a type of that name.
    #[must_use]
    pub fn has_type_named(&self, name: &str) -> bool {
        self.type_names.contains_key(name)
    }

    /// The types of that name, of whatever schema.
    pub fn types_named(&self, name: &str) -> impl Iterator<Item = &Type> {
        let oids = self.type_names.get(name).map_or(&[][..], Vec::as_slice);
        oids.iter().filter_map(|oid| self.types.get(oid))
    }

    /// As [`Self::cast_functions`] for every type of that name.
    pub fn cast_functions_named(&self, name: &str) -> impl Iterator<Item = &FunctionName> {
        let oids = self.type_names.get(name).map_or(&[][..], Vec::as_slice);
        oids.iter().flat_map(|oid| self.cast_functions(*oid))
    }

    /// The schemas of the database.
    pub fn schemas(&self) -> impl Iterator<Item = &str> {
        self.schemas.iter().map(|schema| &**schema)
    }

    /// Whether the database has that schema.
    #[must_use]
    pub fn has_schema(&self, name: &str) -> bool {
        self.schemas.iter().any(|schema| &**schema == name)
    }

    fn relation_mut(&mut self, oid: u32) -> Option<&mut Relation> {
        self.relations.get_mut(*self.by_oid.get(&oid)? as usize)
    }
}
