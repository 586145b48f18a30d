//! Types of the server: how their values are masked.

use weir_mask::ValueKind;

use crate::catalog::Catalog;

/// Domains over domains, and arrays of them, at most.
const LEVELS_MAX: usize = 32;

/// The kind of a type's values, and whether they are arrays of such. A domain is what it is over. A
/// type that is not known here has no masked form: its values are withheld. Without a catalog only
/// built-in types are known.
///
/// OIDs are those of `pg_type.dat`, which never change.
pub(crate) fn kind_of(type_oid: u32, catalog: Option<&Catalog>) -> (ValueKind, bool) {
    let mut oid = type_oid;
    let mut arrays = false;
    for _ in 0..LEVELS_MAX {
        let kind = built_in(oid);
        if kind != ValueKind::Other {
            return (kind, arrays);
        }
        // Arrays of a domain over arrays are not taken apart.
        if let Some(element) = element_of(oid).filter(|_| !arrays) {
            arrays = true;
            oid = element;
            continue;
        }
        let Some(catalog) = catalog else { break };
        match catalog.type_of(oid) {
            Some(known) if known.kind == 'd' => oid = known.base,
            // Arrays of own types: text of an enum is not any text, so only domains are of use.
            Some(known) if known.base != 0 && !arrays && is_domain(known.base, catalog) => {
                arrays = true;
                oid = known.base;
            }
            Some(known) if &*known.name == "citext" => return (ValueKind::Text, arrays),
            Some(_) | None => break,
        }
    }
    (ValueKind::Other, false)
}

fn is_domain(oid: u32, catalog: &Catalog) -> bool {
    catalog.type_of(oid).is_some_and(|known| known.kind == 'd')
}

const fn built_in(oid: u32) -> ValueKind {
    match oid {
        // text, varchar, bpchar, name, unknown, xml
        25 | 1043 | 1042 | 19 | 705 | 142 => ValueKind::Text,
        114 => ValueKind::Json,
        3802 => ValueKind::Jsonb,
        21 => ValueKind::Integer { bytes: 2 },
        23 => ValueKind::Integer { bytes: 4 },
        20 => ValueKind::Integer { bytes: 8 },
        1700 => ValueKind::Decimal,
        700 => ValueKind::Float { bytes: 4 },
        701 => ValueKind::Float { bytes: 8 },
        1082 => ValueKind::Date,
        // timestamp, timestamptz
        1114 | 1184 => ValueKind::Timestamp,
        2950 => ValueKind::Uuid,
        17 => ValueKind::Bytes,
        869 => ValueKind::Network { only: false },
        650 => ValueKind::Network { only: true },
        // macaddr, macaddr8
        829 | 774 => ValueKind::Device,
        _ => ValueKind::Other,
    }
}

/// The element of a built-in array type.
const fn element_of(oid: u32) -> Option<u32> {
    Some(match oid {
        1009 => 25,
        1015 => 1043,
        1014 => 1042,
        1003 => 19,
        143 => 142,
        199 => 114,
        3807 => 3802,
        1005 => 21,
        1007 => 23,
        1016 => 20,
        1231 => 1700,
        1021 => 700,
        1022 => 701,
        1182 => 1082,
        1115 => 1114,
        1185 => 1184,
        2951 => 2950,
        1001 => 17,
        1041 => 869,
        651 => 650,
        1040 => 829,
        775 => 774,
        _ => return None,
    })
}
