//! Bodies of SQL functions.

use std::collections::HashSet;
use std::sync::Arc;

use super::load::{CatalogError, CatalogRows, Names, answer};
use super::{Catalog, SqlBody, SqlFunction};

pub(super) fn load(
    rows: &CatalogRows,
    catalog: &mut Catalog,
    names: &mut Names,
) -> Result<(), CatalogError> {
    let mut single = HashSet::new();
    for row in answer(rows, "overloads")? {
        if row.number::<u64>(2)? == 1 {
            single.insert((names.intern(row.text(0)?), names.intern(row.text(1)?)));
        }
    }
    for row in answer(rows, "sql_functions")? {
        let key = (names.intern(row.text(0)?), names.intern(row.text(1)?));
        let modes = row.text(4)?;
        // How many values a VARIADIC parameter takes is up to the call.
        if !single.contains(&key) || modes.contains('v') {
            continue;
        }
        let count: usize = row.number(5)?;
        // Names are told apart by commas, so one that has a comma is not.
        let named = row.text(3)?;
        let parameters = if modes.is_empty() {
            count
        } else {
            modes.chars().count()
        };
        if !named.is_empty() && named.split(',').count() != parameters {
            continue;
        }
        let mut listed = row.text(3)?.split(',').map(|name| names.intern(name));
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        if modes.is_empty() {
            inputs.extend((0..count).map(|_| listed.next().unwrap_or_else(|| Arc::from(""))));
        } else {
            for mode in modes.chars() {
                let name = listed.next().unwrap_or_else(|| Arc::from(""));
                match mode {
                    'i' => inputs.push(name),
                    'b' => {
                        inputs.push(Arc::clone(&name));
                        outputs.push(name);
                    }
                    _ => outputs.push(name),
                }
            }
        }
        let body = Arc::from(row.text(2)?);
        let function = SqlFunction {
            schema: Arc::clone(&key.0),
            name: Arc::clone(&key.1),
            body: match row.text(7)? {
                "t" => SqlBody::Definition(body),
                _ => SqlBody::Source(body),
            },
            inputs,
            outputs,
            relation: row.number(6)?,
        };
        catalog.sql_functions.insert(key, function);
    }
    Ok(())
}
