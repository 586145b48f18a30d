//! From lineage, obligations and the server's own description to a mask plan.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use weir_decide::{Mask, MaskKind, Obligations};
use weir_mask::{ColumnPlan, Format, MaskPlan};
use weir_model::request::{Access, Object};

use crate::catalog::Catalog;
use crate::understand::{OutputColumn, Statement};
use crate::values;
use crate::wire::backend::Field;

/// What a statement's rows may hold, and what has to happen to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reach {
    /// `None` when nothing is known of it: every value is withheld.
    statement: Option<Arc<Statement>>,
    pub(crate) obligations: Arc<Obligations>,
}

impl Reach {
    pub(crate) fn of(statement: &Arc<Statement>, obligations: &Arc<Obligations>) -> Self {
        Self {
            statement: Some(Arc::clone(statement)),
            obligations: Arc::clone(obligations),
        }
    }

    pub(crate) fn unknown(obligations: &Arc<Obligations>) -> Self {
        Self {
            statement: None,
            obligations: Arc::clone(obligations),
        }
    }

    /// True when nothing in reach is masked.
    pub(crate) fn is_clear(&self) -> bool {
        self.statement.is_some() && self.obligations.masks.is_empty()
    }

    /// True when rows can go by as they are.
    pub(crate) fn passes(&self) -> bool {
        self.is_clear() && self.obligations.detect.is_none()
    }

    /// True when code runs of which nothing is known.
    pub(crate) fn runs_unseen(&self) -> bool {
        self.statement
            .as_ref()
            .is_none_or(|statement| statement.unseen)
    }

    fn columns(&self) -> Option<&[OutputColumn]> {
        self.statement.as_ref()?.columns.as_deref()
    }

    /// Whether policy was asked about reading that column.
    fn reads(&self, object: &Object) -> bool {
        let access = Access {
            action: "readColumn",
            object: object.clone(),
        };
        self.statement
            .as_ref()
            .is_some_and(|statement| statement.intent.accesses.binary_search(&access).is_ok())
    }
}

/// Where a described column comes from, in policy's terms.
pub(crate) struct Place<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) target: &'a Arc<str>,
    pub(crate) database: &'a Arc<str>,
}

impl Place<'_> {
    fn object(&self, table_oid: u32, attnum: i16) -> Option<Object> {
        let (relation, column) = self.catalog.column(table_oid, attnum)?;
        Some(Object {
            kind: "Column",
            path: Box::new([
                Arc::clone(self.target),
                Arc::clone(self.database),
                Arc::clone(&relation.schema),
                Arc::clone(&relation.name),
                Arc::clone(&column.name),
            ]),
        })
    }
}

/// A plan and the rules that it applies, for the record.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Masking {
    pub(crate) plan: MaskPlan,
    pub(crate) rules: Arc<[String]>,
    /// The server described another column than was understood.
    #[serde(skip)]
    pub(crate) other: bool,
}

/// What the server said of a statement's or portal's result, once it did.
pub(crate) type FieldsCell = Arc<OnceLock<Vec<Field>>>;

enum Fate {
    Pass,
    Mask(MaskKind, Arc<str>),
    Withhold,
    Detect,
}

/// Decides each described column. Lineage and the server's table OID and attribute number both
/// have a say; the stricter wins, and what neither clears is withheld.
pub(crate) fn masking(
    reach: &Reach,
    fields: &[Field],
    formats: &[i16],
    place: &Place<'_>,
) -> Masking {
    let mut rules = BTreeSet::new();
    let mut other = false;
    let lineage = reach
        .columns()
        .filter(|columns| columns.len() == fields.len());
    // Another shape than was understood is another statement than was understood.
    let unknown = reach.statement.is_none() || (lineage.is_none() && reach.columns().is_some());
    let columns = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let format = match format_of(formats, index, field.format) {
                0 => Format::Text,
                _ => Format::Binary,
            };
            let (value, arrays) = values::kind_of(field.type_oid, Some(place.catalog));
            let known = lineage.and_then(|columns| columns.get(index));
            other |= is_other(known, field, place);
            let fate = if unknown {
                Fate::Withhold
            } else {
                fate(reach, field, known, place, &mut rules)
            };
            match fate {
                Fate::Pass => ColumnPlan::pass(value, format),
                Fate::Detect => {
                    let column = ColumnPlan::detected(value, format);
                    if arrays { column.in_arrays() } else { column }
                }
                Fate::Mask(kind, domain) => {
                    let column = ColumnPlan::masked(kind, value, format, domain);
                    if arrays { column.in_arrays() } else { column }
                }
                Fate::Withhold => {
                    rules.insert(format!("{}: withheld", field.name));
                    ColumnPlan::withheld(format)
                }
            }
        })
        .collect();
    Masking {
        plan: MaskPlan::new(columns),
        rules: rules.into_iter().collect(),
        other: reach.statement.is_some() && (other || unknown && !fields.is_empty()),
    }
}

/// The server says another column than was understood. Which casts change nothing is its own business:
/// of an expression it may say a column whose values flow into it, and of a column that it is an
/// expression. What is masked then goes by lineage.
fn is_other(known: Option<&OutputColumn>, field: &Field, place: &Place<'_>) -> bool {
    let said = (field.table_oid, field.attnum);
    known.is_some_and(|column| match column.described {
        None => false,
        Some(predicted) if predicted == said || said == (0, 0) => false,
        Some((0, _)) => place
            .object(field.table_oid, field.attnum)
            .is_none_or(|object| !column.sources.contains(&object)),
        Some(_) => true,
    })
}

/// What COPY writes is not described by the server: the fields are those that lineage predicts, with
/// the types of the catalog. `count` is what the server says.
pub(crate) fn copied_fields(
    reach: &Reach,
    count: usize,
    format: i16,
    catalog: &Catalog,
) -> Vec<Field> {
    let known = reach.columns().filter(|columns| columns.len() == count);
    (0..count)
        .map(|index| {
            let column = known.and_then(|columns| columns.get(index));
            let (table_oid, attnum) = column
                .and_then(|column| column.described)
                .unwrap_or_default();
            let of = |(table, attnum)| catalog.column(table, attnum).map(|(_, of)| of.type_oid);
            let plain = column.and_then(|column| column.plain.as_ref());
            let type_oid = of((table_oid, attnum))
                .or_else(|| plain.and_then(|plain| of((plain.table_oid, plain.attnum))));
            Field {
                name: column.map_or_else(|| "?".to_owned(), |column| column.name.clone()),
                table_oid,
                attnum,
                type_oid: type_oid.unwrap_or_default(),
                format,
            }
        })
        .collect()
}

/// Result formats: none means text, one is for all, else one for each.
fn format_of(formats: &[i16], index: usize, described: i16) -> i16 {
    match formats {
        [] => described,
        [one] => *one,
        many => many.get(index).copied().unwrap_or(described),
    }
}

fn fate(
    reach: &Reach,
    field: &Field,
    known: Option<&OutputColumn>,
    place: &Place<'_>,
    rules: &mut BTreeSet<String>,
) -> Fate {
    let masks = &reach.obligations.masks;
    let mut strictest: Option<(&Mask, String)> = None;
    let mut consider = |object: &Object, mask: &'_ Mask| {
        rules.insert(format!("{}: {:?} by {}", object.id(), mask.kind, mask.rule));
    };
    let mut withhold = is_other(known, field, place);
    if field.table_oid != 0 {
        match place.object(field.table_oid, field.attnum) {
            Some(object) => {
                if let Some(mask) = masks.get(&object) {
                    consider(&object, mask);
                    strictest = Some((mask, object.id()));
                } else if known.is_none_or(|known| known.described.is_none())
                    && !reach.reads(&object)
                {
                    // The server says a column that policy was not asked about.
                    withhold = true;
                }
            }
            // A table that the catalog does not show: nothing is known of its columns.
            None => withhold |= !masks.is_empty(),
        }
    }
    match known {
        Some(column) => {
            for source in &column.sources {
                let Some(mask) = masks.get(source) else {
                    continue;
                };
                consider(source, mask);
                if !column.exact.contains(source) {
                    withhold = true;
                }
                if strictest
                    .as_ref()
                    .is_none_or(|(have, _)| mask.kind > have.kind)
                {
                    strictest = Some((mask, source.id()));
                }
            }
        }
        // No lineage: anything masked in reach may be in it.
        None => withhold |= !masks.is_empty(),
    }
    if withhold {
        return Fate::Withhold;
    }
    match strictest {
        Some((mask, id)) => Fate::Mask(mask.kind, Arc::from(id)),
        None => match &reach.obligations.detect {
            Some(rule) => {
                rules.insert(format!("detectors by {rule}"));
                Fate::Detect
            }
            None => Fate::Pass,
        },
    }
}
