//! The catalog as one session sees it: what its open transaction made, and its temporary tables.
//!
//! Only what is not the server's own is asked; the rest comes from the snapshot that the session had.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use super::load::{CatalogError, CatalogRows};
use super::{Catalog, CatalogQuery, Relation};

/// `FirstNormalObjectId` of PostgreSQL's transam.h: objects below are the server's own.
pub(super) const FIRST_OWN_OID: u32 = 16_384;

/// Asked on the agent's own connection, in one go. Texts that depend on `search_path` are read with
/// another one, which is put back within the same statement, whatever rows there are; `is_local`
/// leaves the value of the session alone.
pub const LIVE_QUERIES: &[CatalogQuery] = &[
    CatalogQuery {
        name: "schemas",
        sql: "SELECT n.nspname FROM pg_catalog.pg_namespace n",
    },
    CatalogQuery {
        name: "relations",
        sql: "SELECT c.oid, n.nspname, c.relname, c.relkind, \
              (EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid \
                AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D')), \
              (EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid \
                AND r.rulename OPERATOR(pg_catalog.<>) '_RETURN' AND r.ev_enabled OPERATOR(pg_catalog.<>) 'D')) \
              FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
              ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
              WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S,c,i,I}'::pg_catalog.\"char\"[]) \
              AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
              AND n.nspname OPERATOR(pg_catalog.!~) '^pg_toast' ORDER BY c.oid",
    },
    CatalogQuery {
        name: "columns",
        sql: "SELECT a.attrelid, a.attnum, a.attname, a.atttypid FROM pg_catalog.pg_attribute a \
              WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
              AND a.attrelid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
              ORDER BY a.attrelid, a.attnum",
    },
    CatalogQuery {
        name: "views",
        sql: "WITH before AS MATERIALIZED (SELECT pg_catalog.current_setting('search_path') AS path, \
                pg_catalog.set_config('search_path', 'pg_catalog', true) AS set), \
              texts AS MATERIALIZED (SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) AS text \
                FROM before, pg_catalog.pg_class c \
                WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{v,m}'::pg_catalog.\"char\"[]) \
                AND c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid), \
              after AS MATERIALIZED (SELECT pg_catalog.set_config('search_path', before.path, true) \
                FROM before, (SELECT pg_catalog.count(*) FROM texts) AS every) \
              SELECT texts.oid, texts.text FROM after LEFT JOIN texts ON true \
              WHERE texts.oid IS NOT NULL",
    },
    CatalogQuery {
        name: "inheritance",
        sql: "SELECT i.inhrelid, i.inhparent, c.relispartition \
              FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c \
              ON c.oid OPERATOR(pg_catalog.=) i.inhrelid \
              WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog.\"char\"[])",
    },
    CatalogQuery {
        name: "functions",
        sql: "SELECT n.nspname, p.proname, \
              pg_catalog.bool_or(p.provolatile OPERATOR(pg_catalog.=) 'v'), pg_catalog.bool_or(p.prosecdef), \
              pg_catalog.bool_and(COALESCE(b.typtype, t.typtype) \
                OPERATOR(pg_catalog.=) ANY ('{b,e,r,m}'::pg_catalog.\"char\"[]) \
                AND p.proargmodes IS NULL), \
              pg_catalog.bool_or(p.proretset), \
              pg_catalog.string_agg(p.oid::pg_catalog.text, ' ') \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n \
              ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.prorettype \
              LEFT JOIN pg_catalog.pg_type b ON b.oid OPERATOR(pg_catalog.=) t.typbasetype \
              WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
              AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' GROUP BY 1, 2 ORDER BY 1, 2",
    },
    CatalogQuery {
        name: "sql_functions",
        sql: "WITH before AS MATERIALIZED (SELECT pg_catalog.current_setting('search_path') AS path, \
                pg_catalog.set_config('search_path', 'pg_catalog', true) AS set), \
              texts AS MATERIALIZED (SELECT n.nspname, p.proname, \
                COALESCE(CASE WHEN p.prosrc OPERATOR(pg_catalog.<>) '' THEN p.prosrc \
                  ELSE pg_catalog.pg_get_functiondef(p.oid) END, '') AS body, \
                COALESCE(pg_catalog.array_to_string(p.proargnames, ','), '') AS names, \
                COALESCE(pg_catalog.array_to_string(p.proargmodes, ''), '') AS modes, p.pronargs, \
                COALESCE(b.typrelid, t.typrelid) AS relation, \
                p.prosrc OPERATOR(pg_catalog.=) '' AS definition \
                FROM before, pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n \
                ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
                JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
                JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) p.prorettype \
                LEFT JOIN pg_catalog.pg_type b ON b.oid OPERATOR(pg_catalog.=) t.typbasetype \
                WHERE l.lanname OPERATOR(pg_catalog.=) 'sql' AND p.proconfig IS NULL \
                AND p.prokind OPERATOR(pg_catalog.=) ANY ('{f,w}'::pg_catalog.\"char\"[]) \
                AND n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
                AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'), \
              after AS MATERIALIZED (SELECT pg_catalog.set_config('search_path', before.path, true) \
                FROM before, (SELECT pg_catalog.count(*) FROM texts) AS every) \
              SELECT nspname, proname, body, names, modes, pronargs, relation, definition \
              FROM after LEFT JOIN texts ON true WHERE proname IS NOT NULL",
    },
    CatalogQuery {
        name: "overloads",
        sql: "SELECT n.nspname, p.proname, pg_catalog.count(*) \
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n \
              ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
              AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' GROUP BY 1, 2",
    },
    CatalogQuery {
        name: "generated",
        // Older servers hang the dependency on the column, newer ones on its default.
        sql: "SELECT a.attrelid, a.attnum, d.refobjsubid FROM pg_catalog.pg_attribute a \
              LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) a.attrelid \
              AND f.adnum OPERATOR(pg_catalog.=) a.attnum \
              JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) a.attrelid \
              AND d.refobjsubid OPERATOR(pg_catalog.>) 0 \
              AND d.refobjsubid OPERATOR(pg_catalog.<>) a.attnum \
              AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
              AND ((d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
                    AND d.objid OPERATOR(pg_catalog.=) a.attrelid AND d.objsubid OPERATOR(pg_catalog.=) a.attnum) \
                OR (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid \
                    AND d.objid OPERATOR(pg_catalog.=) f.oid)) \
              WHERE a.attgenerated OPERATOR(pg_catalog.<>) ''",
    },
    CatalogQuery {
        name: "types",
        sql: "SELECT t.oid, n.nspname, t.typname, t.typtype, \
              CASE WHEN t.typtype OPERATOR(pg_catalog.=) 'd' THEN t.typbasetype ELSE t.typelem END, t.typrelid \
              FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n \
              ON n.oid OPERATOR(pg_catalog.=) t.typnamespace \
              WHERE t.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid \
              AND n.nspname OPERATOR(pg_catalog.<>) 'pg_toast' ORDER BY t.oid",
    },
    CatalogQuery {
        name: "operators",
        sql: "SELECT o.oprname, n.nspname, p.proname \
              FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p \
              ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'",
    },
    CatalogQuery {
        name: "casts",
        sql: "SELECT k.casttarget, n.nspname, p.proname \
              FROM pg_catalog.pg_cast k JOIN pg_catalog.pg_proc p \
              ON p.oid OPERATOR(pg_catalog.=) k.castfunc \
              JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
              WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'",
    },
];

impl Catalog {
    /// This snapshot with everything but the server's own objects taken from `rows`, the answers to
    /// [`LIVE_QUERIES`].
    ///
    /// # Errors
    /// [`CatalogError`] when rows are missing, malformed or more than the limits.
    pub fn renewed(&self, rows: &CatalogRows) -> Result<Self, CatalogError> {
        let mut renewed = super::load::load(rows)?;
        // Numbers of places change, so the server's own relations are put behind.
        let own = self.relations.iter().filter(|one| one.oid < FIRST_OWN_OID);
        for relation in own {
            let at = u32::try_from(renewed.relations.len()).map_err(|_| CatalogError::TooLarge)?;
            renewed.by_oid.insert(relation.oid, at);
            let same = renewed.by_name.entry(Arc::clone(&relation.name));
            same.or_default().push(at);
            renewed.relations.push(copied(relation));
        }
        for (name, functions) in &self.functions {
            let own = functions
                .iter()
                .filter(|one| matches!(&*one.schema, "pg_catalog" | "information_schema"));
            let same = renewed.functions.entry(Arc::clone(name));
            same.or_default().extend(own.cloned());
        }
        for (oid, named) in &self.function_oids {
            if matches!(&*named.0, "pg_catalog" | "information_schema") {
                renewed.function_oids.insert(*oid, named.clone());
            }
        }
        for (oid, kind) in self.types.iter().filter(|(oid, _)| **oid < FIRST_OWN_OID) {
            let same = renewed.type_names.entry(Arc::clone(&kind.name));
            same.or_default().push(*oid);
            renewed.types.insert(*oid, kind.clone());
        }
        let mut digest = std::hash::DefaultHasher::new();
        (self.base.unwrap_or(self.generation), renewed.generation).hash(&mut digest);
        renewed.base = Some(self.base.unwrap_or(self.generation));
        renewed.generation = digest.finish();
        Ok(renewed)
    }
}

fn copied(relation: &Relation) -> Relation {
    Relation {
        oid: relation.oid,
        schema: Arc::clone(&relation.schema),
        name: Arc::clone(&relation.name),
        kind: relation.kind,
        columns: relation.columns.clone(),
        definition: relation.definition.clone(),
        parents: relation.parents.clone(),
        heirs: relation.heirs.clone(),
        triggers: relation.triggers,
        rules: relation.rules,
        lineage: OnceLock::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(relations: &[[&str; 6]]) -> CatalogRows {
        let text = |cells: &[&str]| cells.iter().map(|cell| Some((*cell).to_owned())).collect();
        let answers = LIVE_QUERIES.iter().map(|query| match query.name {
            "relations" => ("relations", relations.iter().map(|row| text(row)).collect()),
            name => (name, Vec::new()),
        });
        CatalogRows(answers.collect())
    }

    #[test]
    fn the_servers_own_stay_and_the_rest_is_replaced() {
        let own = ["1259", "pg_catalog", "pg_class", "r", "f", "f"];
        let before = ["20000", "public", "before", "r", "f", "f"];
        let after = ["20001", "pg_temp_3", "after", "r", "f", "f"];
        let base = Catalog::from_rows(&rows(&[own, before])).unwrap();
        let renewed = base.renewed(&rows(&[after])).unwrap();
        assert!(renewed.relation_in("pg_catalog", "pg_class").is_some());
        assert_eq!(renewed.relation(1259).unwrap().oid, 1259);
        assert!(renewed.relation_in("public", "before").is_none());
        assert!(renewed.relation(20000).is_none());
        assert_eq!(
            renewed.relation(20001).unwrap().schema.as_ref(),
            "pg_temp_3"
        );
        assert_ne!(renewed.generation(), base.generation());
        // The same seen again is the same, whatever was seen in between.
        let again = renewed.renewed(&rows(&[before])).unwrap();
        let again = again.renewed(&rows(&[after])).unwrap();
        assert_eq!(again.generation(), renewed.generation());
    }
}
