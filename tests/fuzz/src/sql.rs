//! Texts of SQL, against a small catalog.

use std::sync::{Arc, LazyLock};

use weir_postgres::catalog::{CATALOG_QUERIES, Catalog, CatalogRows};
use weir_postgres::understand::{NameScope, SqlLimits, understand};

fn cells(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

/// One table whose `ssn` is masked, a view over it, two functions and a type.
pub(crate) fn catalog() -> Catalog {
    let rows = CATALOG_QUERIES.iter().map(|query| {
        let rows = match query.name {
            "schemas" => vec![cells(&["public"]), cells(&["pg_catalog"])],
            "relations" => vec![
                cells(&["100", "public", "customers", "r", "f", "f"]),
                cells(&["101", "public", "people", "v", "f", "f"]),
            ],
            "columns" => vec![
                cells(&["100", "1", "id", "23"]),
                cells(&["100", "2", "ssn", "25"]),
                cells(&["101", "1", "id", "23"]),
                cells(&["101", "2", "code", "25"]),
            ],
            "views" => vec![cells(&["101", "SELECT id, ssn AS code FROM public.customers;"])],
            "functions" => vec![
                cells(&["pg_catalog", "upper", "f", "f", "t", "f"]),
                cells(&["public", "own", "t", "t", "f", "t"]),
            ],
            "types" => vec![cells(&["25", "pg_catalog", "text", "b", "0", "0"])],
            _ => Vec::new(),
        };
        (query.name, rows)
    });
    match Catalog::from_rows(&CatalogRows(rows.collect())) {
        Ok(catalog) => catalog,
        Err(error) => panic!("the catalog: {error}"),
    }
}

/// Whatever is understood names ranges within the text.
pub(crate) fn understood(data: &[u8]) {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(catalog);
    let text = String::from_utf8_lossy(data);
    let (target, database) = (Arc::from("t"), Arc::from("db"));
    let scope = NameScope {
        catalog: &CATALOG,
        target: &target,
        database: &database,
        search_path: &[Arc::from("public")],
        role: "weir_app",
        lenient: false,
        path_settled: true,
    };
    let limits = SqlLimits {
        text_bytes_max: 1 << 16,
        work_max: 200_000,
        ..SqlLimits::default()
    };
    let Ok(statements) = understand(&text, &scope, &limits) else {
        return;
    };
    for statement in statements {
        assert!(text.get(statement.text.clone()).is_some());
        assert!(!statement.intent.accesses.is_empty());
        for (range, _) in &statement.compared_literals {
            assert!(statement.redacted.get(range.clone()).is_some());
        }
    }
}
