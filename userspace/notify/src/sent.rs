//! What was told already, in a file of its own: a restart tells nobody twice.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, params};

use crate::deliver::Reference;

/// Older entries are forgotten: their requests are long over.
const KEEP_S: i64 = 7 * 24 * 3600;

/// By notifier and key.
type Known = HashMap<(String, String), Option<Reference>>;

pub(crate) struct Sent {
    db: Connection,
    known: Known,
}

impl Sent {
    pub(crate) fn open(path: &Path, now_s: i64) -> Result<Self, rusqlite::Error> {
        let db = Connection::open(path)?;
        db.execute_batch(
            "pragma journal_mode = wal;
             create table if not exists sent (
                 notifier text not null, key text not null, at_s integer not null,
                 place text not null, stamp text not null, primary key (notifier, key)
             ) strict;",
        )?;
        db.execute("delete from sent where at_s < ?1", [now_s - KEEP_S])?;
        let known = read(&db)?;
        Ok(Self { db, known })
    }

    pub(crate) fn has(&self, notifier: &str, key: &str) -> bool {
        self.known
            .contains_key(&(notifier.to_owned(), key.to_owned()))
    }

    pub(crate) fn reference(&self, notifier: &str, key: &str) -> Option<&Reference> {
        self.known
            .get(&(notifier.to_owned(), key.to_owned()))?
            .as_ref()
    }

    /// Told, or given up: either way it is not told again.
    pub(crate) fn done(
        &mut self,
        notifier: &str,
        key: &str,
        reference: Option<Reference>,
        now_s: i64,
    ) -> Result<(), rusqlite::Error> {
        let (place, stamp) = match &reference {
            Some(at) => (at.place.as_str(), at.stamp.as_str()),
            None => ("", ""),
        };
        let wrote = self.db.execute(
            "insert or replace into sent values (?1, ?2, ?3, ?4, ?5)",
            params![notifier, key, now_s, place, stamp],
        );
        self.known
            .insert((notifier.to_owned(), key.to_owned()), reference);
        wrote.map(drop)
    }
}

fn read(db: &Connection) -> Result<Known, rusqlite::Error> {
    let mut statement = db.prepare("select notifier, key, place, stamp from sent")?;
    let rows = statement.query_map([], |row| {
        let (place, stamp): (String, String) = (row.get(2)?, row.get(3)?);
        let reference = (!stamp.is_empty()).then_some(Reference { place, stamp });
        Ok(((row.get(0)?, row.get(1)?), reference))
    })?;
    rows.collect()
}
