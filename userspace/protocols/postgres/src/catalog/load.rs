//! From rows of text to a [`Catalog`], within limits.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use weir_model::fault::{Fault, FaultKind};

use super::{Catalog, Column, Function, Relation, RelationKind, Type, bodies};

/// Rows in one answer; a database with more relations and columns than this is refused.
const ROWS_MAX: usize = 2_000_000;
/// Bytes of all cells together.
const BYTES_MAX: usize = 512 << 20;

/// Answers to the catalog queries: the query's name and its rows, all columns as text.
#[derive(Clone, Debug, Default)]
pub struct CatalogRows(pub Vec<(&'static str, Vec<Vec<Option<String>>>)>);

/// Why a snapshot could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("the answer to catalog query {0} is missing")]
    Missing(&'static str),
    #[error("a row of catalog query {0} is malformed")]
    Malformed(&'static str),
    #[error("the catalog is larger than the limit")]
    TooLarge,
}

impl Fault for CatalogError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Missing(_) => FaultKind::Internal,
            Self::Malformed(_) => FaultKind::Upstream,
            Self::TooLarge => FaultKind::Limit,
        }
    }
}

/// One row of one answer, read by position.
pub(super) struct Cells<'a> {
    query: &'static str,
    cells: &'a [Option<String>],
}

impl<'a> Cells<'a> {
    pub(super) fn text(&self, at: usize) -> Result<&'a str, CatalogError> {
        self.cells
            .get(at)
            .and_then(Option::as_deref)
            .ok_or(CatalogError::Malformed(self.query))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T, CatalogError> {
        self.text(at)?
            .parse()
            .map_err(|_| CatalogError::Malformed(self.query))
    }

    fn flag(&self, at: usize) -> Result<bool, CatalogError> {
        match self.text(at)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(CatalogError::Malformed(self.query)),
        }
    }

    fn letter(&self, at: usize) -> Result<char, CatalogError> {
        self.text(at)?
            .chars()
            .next()
            .ok_or(CatalogError::Malformed(self.query))
    }
}

/// Equal names share one allocation.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Arc<str>>);

impl Names {
    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = Arc::from(name);
        self.0.insert(name.to_owned(), Arc::clone(&fresh));
        fresh
    }
}

pub(super) fn answer<'a>(
    rows: &'a CatalogRows,
    query: &'static str,
) -> Result<impl Iterator<Item = Cells<'a>> + use<'a>, CatalogError> {
    let (_, answer) = rows
        .0
        .iter()
        .find(|(name, _)| *name == query)
        .ok_or(CatalogError::Missing(query))?;
    Ok(answer.iter().map(move |cells| Cells { query, cells }))
}

fn check_size(rows: &CatalogRows) -> Result<u64, CatalogError> {
    let mut digest = std::hash::DefaultHasher::new();
    let mut bytes = 0usize;
    for (name, answer) in &rows.0 {
        if answer.len() > ROWS_MAX {
            return Err(CatalogError::TooLarge);
        }
        name.hash(&mut digest);
        for row in answer {
            bytes += row.iter().flatten().map(String::len).sum::<usize>();
            row.hash(&mut digest);
        }
        if bytes > BYTES_MAX {
            return Err(CatalogError::TooLarge);
        }
    }
    Ok(digest.finish())
}

pub(super) fn load(rows: &CatalogRows) -> Result<Catalog, CatalogError> {
    let generation = check_size(rows)?;
    let mut names = Names::default();
    let mut catalog = Catalog {
        generation,
        base: None,
        relations: Vec::new(),
        by_oid: HashMap::new(),
        by_name: HashMap::new(),
        functions: HashMap::new(),
        function_oids: HashMap::new(),
        sql_functions: HashMap::new(),
        types: HashMap::new(),
        type_names: HashMap::new(),
        operators: HashMap::new(),
        casts: HashMap::new(),
        schemas: Vec::new(),
    };
    for row in answer(rows, "schemas")? {
        catalog.schemas.push(names.intern(row.text(0)?));
    }
    load_relations(rows, &mut catalog, &mut names)?;
    load_routines(rows, &mut catalog, &mut names)?;
    bodies::load(rows, &mut catalog, &mut names)?;
    for row in answer(rows, "types")? {
        let kind = Type {
            oid: row.number(0)?,
            schema: names.intern(row.text(1)?),
            name: names.intern(row.text(2)?),
            kind: row.letter(3)?,
            base: row.number(4)?,
            relation: row.number(5)?,
        };
        catalog
            .type_names
            .entry(Arc::clone(&kind.name))
            .or_default()
            .push(kind.oid);
        catalog.types.insert(kind.oid, kind);
    }
    Ok(catalog)
}

fn relation_kind(letter: char) -> RelationKind {
    match letter {
        'r' => RelationKind::Table,
        'p' => RelationKind::PartitionedTable,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::ForeignTable,
        'S' => RelationKind::Sequence,
        'i' | 'I' => RelationKind::Index,
        'c' => RelationKind::Composite,
        _ => RelationKind::Other,
    }
}

fn load_relations(
    rows: &CatalogRows,
    catalog: &mut Catalog,
    names: &mut Names,
) -> Result<(), CatalogError> {
    for row in answer(rows, "relations")? {
        let relation = Relation {
            oid: row.number(0)?,
            schema: names.intern(row.text(1)?),
            name: names.intern(row.text(2)?),
            kind: relation_kind(row.letter(3)?),
            columns: Vec::new(),
            definition: None,
            parents: Vec::new(),
            heirs: Vec::new(),
            triggers: row.flag(4)?,
            rules: row.flag(5)?,
            lineage: std::sync::OnceLock::new(),
        };
        let at = u32::try_from(catalog.relations.len()).map_err(|_| CatalogError::TooLarge)?;
        catalog.by_oid.insert(relation.oid, at);
        catalog
            .by_name
            .entry(Arc::clone(&relation.name))
            .or_default()
            .push(at);
        catalog.relations.push(relation);
    }
    for row in answer(rows, "columns")? {
        let column = Column {
            attnum: row.number(1)?,
            name: names.intern(row.text(2)?),
            type_oid: row.number(3)?,
            computed_from: Vec::new(),
        };
        if let Some(relation) = catalog.relation_mut(row.number(0)?) {
            relation.columns.push(column);
        }
    }
    for relation in &mut catalog.relations {
        relation.columns.sort_by_key(|column| column.attnum);
    }
    for row in answer(rows, "generated")? {
        let (number, from): (i16, i16) = (row.number(1)?, row.number(2)?);
        if let Some(relation) = catalog.relation_mut(row.number(0)?)
            && let Some(column) = relation.columns.iter_mut().find(|one| one.attnum == number)
        {
            column.computed_from.push(from);
        }
    }
    for row in answer(rows, "views")? {
        if let Some(relation) = catalog.relation_mut(row.number(0)?) {
            relation.definition = Some(Arc::from(row.text(1)?));
        }
    }
    for row in answer(rows, "inheritance")? {
        let (child, parent): (u32, u32) = (row.number(0)?, row.number(1)?);
        if let Some(relation) = catalog.relation_mut(child) {
            relation.parents.push(parent);
        }
        if !row.flag(2)?
            && let Some(relation) = catalog.relation_mut(parent)
        {
            relation.heirs.push(child);
        }
    }
    Ok(())
}

fn load_routines(
    rows: &CatalogRows,
    catalog: &mut Catalog,
    names: &mut Names,
) -> Result<(), CatalogError> {
    for row in answer(rows, "functions")? {
        let function = Function {
            schema: names.intern(row.text(0)?),
            name: names.intern(row.text(1)?),
            volatile: row.flag(2)?,
            security_definer: row.flag(3)?,
            scalar: row.flag(4)?,
            returns_set: row.flag(5)?,
        };
        for oid in row.text(6).unwrap_or_default().split_ascii_whitespace() {
            let oid = oid
                .parse()
                .map_err(|_| CatalogError::Malformed("functions"))?;
            let named = (Arc::clone(&function.schema), Arc::clone(&function.name));
            catalog.function_oids.insert(oid, named);
        }
        catalog
            .functions
            .entry(Arc::clone(&function.name))
            .or_default()
            .push(function);
    }
    for row in answer(rows, "operators")? {
        let function = (names.intern(row.text(1)?), names.intern(row.text(2)?));
        catalog
            .operators
            .entry(names.intern(row.text(0)?))
            .or_default()
            .push(function);
    }
    for row in answer(rows, "casts")? {
        let function = (names.intern(row.text(1)?), names.intern(row.text(2)?));
        catalog
            .casts
            .entry(row.number(0)?)
            .or_default()
            .push(function);
    }
    Ok(())
}
