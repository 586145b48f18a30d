//! The queries that fill a snapshot.

/// One query of the snapshot, in the simple protocol, all columns as text.
#[derive(Clone, Copy, Debug)]
pub struct CatalogQuery {
    pub name: &'static str,
    pub sql: &'static str,
}

/// Run these in order on one connection, in one `REPEATABLE READ` transaction where possible.
/// The first one sets the search path so that view definitions come with qualified names.
pub const CATALOG_QUERIES: &[CatalogQuery] = &[
    CatalogQuery {
        name: "setup",
        sql: "SELECT pg_catalog.set_config('search_path', 'pg_catalog', false)",
    },
    CatalogQuery {
        name: "schemas",
        sql: "SELECT n.nspname FROM pg_catalog.pg_namespace n",
    },
    CatalogQuery {
        name: "relations",
        sql: "SELECT c.oid, n.nspname, c.relname, c.relkind, \
              (EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid \
                AND NOT t.tgisinternal AND t.tgenabled <> 'D')), \
              (EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid \
                AND r.rulename <> '_RETURN' AND r.ev_enabled <> 'D')) \
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.relkind IN ('r','p','v','m','f','S','c','i','I') \
              AND (n.nspname <> 'pg_toast' AND n.nspname !~ '^pg_toast_temp_') \
              ORDER BY c.oid",
    },
    CatalogQuery {
        name: "columns",
        sql: "SELECT a.attrelid, a.attnum, a.attname, a.atttypid \
              FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE a.attnum > 0 AND NOT a.attisdropped \
              AND c.relkind IN ('r','p','v','m','f','S','c') \
              AND (n.nspname <> 'pg_toast' AND n.nspname !~ '^pg_toast_temp_') \
              ORDER BY a.attrelid, a.attnum",
    },
    CatalogQuery {
        name: "views",
        sql: "SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) \
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
              WHERE c.relkind IN ('v','m') \
              AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
    },
    CatalogQuery {
        name: "inheritance",
        sql: "SELECT i.inhrelid, i.inhparent, c.relispartition \
              FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
              WHERE c.relkind IN ('r','p','f')",
    },
    CatalogQuery {
        name: "functions",
        sql: "SELECT n.nspname, p.proname, \
              pg_catalog.bool_or(p.provolatile = 'v'), pg_catalog.bool_or(p.prosecdef), \
              pg_catalog.bool_and(COALESCE(b.typtype, t.typtype) IN ('b','e','r','m') AND p.proargmodes IS NULL), \
              pg_catalog.bool_or(p.proretset), \
              pg_catalog.string_agg(p.oid::pg_catalog.text, ' ') \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              JOIN pg_catalog.pg_type t ON t.oid = p.prorettype \
              LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype \
              GROUP BY 1, 2 ORDER BY 1, 2",
    },
    CatalogQuery {
        name: "sql_functions",
        sql: "SELECT n.nspname, p.proname, \
              COALESCE(NULLIF(p.prosrc, ''), pg_catalog.pg_get_functiondef(p.oid), ''), \
              COALESCE(pg_catalog.array_to_string(p.proargnames, ','), ''), \
              COALESCE(pg_catalog.array_to_string(p.proargmodes, ''), ''), p.pronargs, \
              COALESCE(b.typrelid, t.typrelid), p.prosrc = '' \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
              JOIN pg_catalog.pg_type t ON t.oid = p.prorettype \
              LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype \
              WHERE l.lanname = 'sql' AND p.proconfig IS NULL \
              AND p.prokind IN ('f', 'w') \
              AND n.nspname NOT IN ('pg_catalog', 'information_schema')",
    },
    CatalogQuery {
        name: "overloads",
        sql: "SELECT n.nspname, p.proname, pg_catalog.count(*) \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') GROUP BY 1, 2",
    },
    CatalogQuery {
        name: "generated",
        // Older servers hang the dependency on the column, newer ones on its default.
        sql: "SELECT a.attrelid, a.attnum, d.refobjsubid FROM pg_catalog.pg_attribute a \
              LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum \
              JOIN pg_catalog.pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid > 0 \
              AND d.refobjsubid <> a.attnum \
              AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
              AND ((d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                    AND d.objid = a.attrelid AND d.objsubid = a.attnum) \
                OR (d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid)) \
              WHERE a.attgenerated <> ''",
    },
    CatalogQuery {
        name: "types",
        sql: "SELECT t.oid, n.nspname, t.typname, t.typtype, \
              CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END, t.typrelid \
              FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
              WHERE n.nspname <> 'pg_toast' ORDER BY t.oid",
    },
    CatalogQuery {
        name: "operators",
        sql: "SELECT o.oprname, n.nspname, p.proname \
              FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode \
              JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              WHERE n.nspname <> 'pg_catalog'",
    },
    CatalogQuery {
        name: "casts",
        sql: "SELECT k.casttarget, n.nspname, p.proname \
              FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc \
              JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
              WHERE n.nspname <> 'pg_catalog'",
    },
];
