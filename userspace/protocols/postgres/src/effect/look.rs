//! Which writes can be shown, and what is asked in order to show them.

use std::sync::Arc;

use bytes::BytesMut;
use weir_model::effect::Changed;
use weir_model::request::Object;
use weir_model::time::Now;

use super::Runs;
use super::ask::{Answer, Question};
use crate::catalog::{Catalog, RelationKind};
use crate::plan::Reach;
use crate::session::PostgresSession;
use crate::understand::{Statement, StatementKind};
use crate::wire::Frame;
use crate::wire::backend;

/// The end of an Execute without a limit.
const EVERY_ROW: [u8; 4] = [0; 4];
/// Rows of either kind that a reviewer sees of one table.
const ROWS_SHOWN: usize = 20;
/// Characters of one value.
const VALUE_CHARS: usize = 200;
/// Bytes of all rows of one answer that are shown.
const SHOWN_BYTES_MAX: usize = 32 << 10;

/// What a statement may do and still be taken back by the end of its transaction.
const UNDONE: [&str; 8] = [
    "select",
    "insert",
    "update",
    "delete",
    "readColumn",
    "usePredicate",
    "writeColumn",
    "lock",
];

/// A written table.
pub(super) struct Table {
    /// `"schema"."table"`
    quoted: String,
    shown: String,
    oid: u32,
    /// Name of the cursor that was opened before.
    cursor: String,
}

/// Name of the column by which that answer is known.
pub(super) const CASCADES: &str = "weir cascades";

/// This transaction's number, as rows carry it.
const MINE: &str = "OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()::pg_catalog.xid";

impl Table {
    fn new(number: usize, object: &Object, catalog: &Catalog) -> Option<Self> {
        let [_, _, schema, name] = &*object.path else {
            return None;
        };
        let relation = catalog.relation_in(schema, name)?;
        let plain = matches!(
            relation.kind,
            RelationKind::Table | RelationKind::PartitionedTable
        );
        // Of a foreign table the rows are elsewhere, and so may be what undoes their change.
        let away = catalog.relations().any(|other| {
            other.kind == RelationKind::ForeignTable && descends(catalog, other.oid, relation.oid)
        });
        (plain && !away).then(|| Self {
            quoted: format!("{}.{}", quoted(schema), quoted(name)),
            shown: format!("{schema}.{name}"),
            oid: relation.oid,
            cursor: format!("weir before {number}"),
        })
    }

    /// Asked before it runs.
    pub(super) fn before(&self) -> [Question; 2] {
        let Self { quoted, oid, .. } = self;
        [
            Question::Ask(format!(
                "select conname as \"{CASCADES}\" from pg_catalog.pg_constraint \
                 where contype OPERATOR(pg_catalog.=) 'f' \
                 and confrelid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid \
                 and (confdeltype in ('c', 'n', 'd') or confupdtype in ('c', 'n', 'd')) limit 1"
            )),
            Question::Open {
                cursor: self.cursor.clone(),
                query: format!("select * from {quoted} where xmax {MINE}"),
            },
        ]
    }

    /// Asked when it has run. What an earlier statement of the transaction added has an older
    /// command number.
    pub(super) fn after(&self) -> [Question; 3] {
        let quoted = &self.quoted;
        let rows = ROWS_SHOWN + 1;
        let command = "cmin::pg_catalog.text::pg_catalog.int8";
        [
            Question::Fetch {
                cursor: self.cursor.clone(),
                rows,
            },
            Question::Close(self.cursor.clone()),
            Question::Ask(format!(
                "select * from {quoted} where xmin {MINE} and {command} OPERATOR(pg_catalog.=) \
                 (select pg_catalog.max({command}) from {quoted} where xmin {MINE}) limit {rows}"
            )),
        ]
    }
}

fn descends(catalog: &Catalog, oid: u32, from: u32) -> bool {
    let mut open = vec![oid];
    // A catalog's inheritance has no rings; a hostile one is left after as many steps.
    for _step in 0..1024 {
        let Some(oid) = open.pop() else { return false };
        if oid == from {
            return true;
        }
        let relation = catalog.relation(oid);
        open.extend(relation.into_iter().flat_map(|one| one.parents.iter()));
    }
    true
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl PostgresSession {
    /// The only one there is.
    pub(super) fn statement_of(&self, runs: &Runs) -> Option<Arc<Statement>> {
        match runs {
            Runs::Query(job) => match job.statements.as_slice() {
                [statement] => Some(Arc::clone(statement)),
                _ => None,
            },
            Runs::Portal(name, _) => {
                let portal = self.portal(name)?;
                Some(Arc::clone(&portal.prepared.statement))
            }
        }
    }

    /// The tables that one statement writes; otherwise why its effect cannot be undone, or not be
    /// shown.
    pub(super) fn showable(&self, runs: &Runs) -> Result<Vec<Table>, &'static str> {
        if let Runs::Portal(_, frame) = runs
            && !frame.ends_with(&EVERY_ROW)
        {
            return Err("its rows are asked for in portions");
        }
        let Some(statement) = self.statement_of(runs) else {
            return Err("its effect is shown of one statement at a time");
        };
        if !matches!(statement.kind, StatementKind::Write) {
            return Err("only INSERT, UPDATE, DELETE and MERGE can be shown and taken back");
        }
        if statement.unseen {
            return Err("a trigger, or a function that is not known to be harmless, would run");
        }
        let accesses = &statement.intent.accesses;
        if !accesses.iter().all(|one| UNDONE.contains(&one.action)) {
            return Err("it does more than a rollback takes back");
        }
        let Some(catalog) = &self.catalog else {
            return Err("the catalog is not known");
        };
        let mut written: Vec<&Object> = accesses
            .iter()
            .filter(|one| matches!(one.action, "insert" | "update" | "delete"))
            .map(|one| &one.object)
            .collect();
        written.dedup();
        let mut tables: Vec<Table> = Vec::new();
        for object in written {
            let table = Table::new(tables.len(), object, catalog);
            let table = table.ok_or("what it writes is not an ordinary table")?;
            if tables.iter().all(|have| have.oid != table.oid) {
                tables.push(table);
            }
        }
        Ok(tables)
    }

    /// Three answers for each table: before, the closed cursor, after.
    pub(super) fn changed(
        &mut self,
        tables: &[Table],
        answers: &[Answer],
        now: Now,
    ) -> Vec<Changed> {
        let mut all = Vec::new();
        for (table, answers) in tables.iter().zip(answers.chunks(3)) {
            let [before, _closed, after] = answers else {
                continue;
            };
            all.push(self.changed_in(table, (before, after), now));
        }
        all
    }

    fn changed_in(
        &mut self,
        table: &Table,
        (before, after): (&Answer, &Answer),
        now: Now,
    ) -> Changed {
        let mut changed = Changed {
            table: table.shown.clone(),
            ..Changed::default()
        };
        let Some(reach) = self.sight(table, now) else {
            changed.withheld = true;
            return changed;
        };
        changed.columns = before
            .fields
            .iter()
            .map(|field| field.name.clone())
            .collect();
        changed.before = self.masked(&reach, before);
        changed.after = self.masked(&reach, after);
        changed.more = changed.before.len() < before.count || changed.after.len() < after.count;
        changed
    }

    /// What the principal would be shown of the table's rows if it asked for them.
    fn sight(&mut self, table: &Table, now: Now) -> Option<Reach> {
        let text = format!("select * from {}", table.quoted);
        let catalog = Arc::clone(self.catalog.as_ref()?);
        let statements = self.understand_with(&text, &catalog, false).ok()?;
        let statement = Arc::new(statements.into_iter().next()?);
        let governor = self.governor.as_mut()?;
        let obligations = governor.sees(&statement.intent, now)?;
        Some(Reach::of(&statement, &obligations))
    }

    fn masked(&self, reach: &Reach, answer: &Answer) -> Vec<Vec<Option<String>>> {
        let masking = self.plan(reach, &answer.fields, &[]);
        let key = self.config.mask_key.clone();
        let patterns = self.config.patterns.clone();
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in answer.rows.iter().take(ROWS_SHOWN) {
            let plan = masking.plan.rows(&key, BytesMut::new());
            let mut masker = plan.with_patterns(patterns.as_deref());
            masker.frame(&[b'D', 0, 0, 0, 0, 0, 0]);
            let read = backend::data_row(row, |index, value| {
                masker.cell(index, value, crate::pipeline::put_cell);
            });
            let Ok(count) = read else { continue };
            masker.patch_u16(5, u16::try_from(count).unwrap_or(u16::MAX));
            let masked = Frame {
                tag: b'D',
                whole: masker.finish().bytes().clone(),
            };
            let mut cells = Vec::with_capacity(count);
            let read = backend::data_row(&masked, |_, value| {
                let text = value.map(String::from_utf8_lossy);
                let shown = text.map(|text| text.chars().take(VALUE_CHARS).collect::<String>());
                bytes += shown.as_ref().map_or(4, String::len) + 4;
                cells.push(shown);
            });
            if read.is_err() || bytes > SHOWN_BYTES_MAX {
                break;
            }
            rows.push(cells);
        }
        rows
    }
}
