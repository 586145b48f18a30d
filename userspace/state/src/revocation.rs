//! The kill list: who may not have a session any more, whatever Entra says.

use rusqlite::Connection;
use weir_model::ident::RevokedKind;

use crate::error::{Doing, StateError};

/// Entries; a list that long is not kept by hand.
const ENTRIES_MAX: i64 = 100_000;
const VALUE_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 4096;

pub(crate) const TABLE: &str = "
create table revocations (
    kind text not null, value text not null, by_oid text not null, reason text not null,
    at_us integer not null, primary key (kind, value)
) strict;
";

/// One entry. `by` is the `oid` of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub kind: RevokedKind,
    pub value: String,
    pub by: String,
    pub reason: String,
    /// Microseconds since the epoch.
    pub at_us: i64,
}

/// A second entry for the same subject keeps the first one's date and reason.
pub(crate) fn add(db: &Connection, entry: &Revocation) -> Result<(), StateError> {
    if entry.reason.trim().is_empty() {
        return Err(StateError::NoJustification);
    }
    if entry.value.len() > VALUE_BYTES_MAX || entry.reason.len() > REASON_BYTES_MAX {
        return Err(StateError::TooLarge);
    }
    let count: i64 = db
        .query_row("select count(*) from revocations", [], |row| row.get(0))
        .doing("count revocations")?;
    if count >= ENTRIES_MAX {
        return Err(StateError::Full);
    }
    db.execute(
        "insert into revocations (kind, value, by_oid, reason, at_us) values (?1, ?2, ?3, ?4, ?5) \
         on conflict do nothing",
        rusqlite::params![
            entry.kind.label(),
            entry.value,
            entry.by,
            entry.reason,
            entry.at_us
        ],
    )
    .doing("add a revocation")?;
    Ok(())
}

/// False when there was no such entry.
pub(crate) fn remove(db: &Connection, kind: RevokedKind, value: &str) -> Result<bool, StateError> {
    let removed = db
        .execute(
            "delete from revocations where kind = ?1 and value = ?2",
            rusqlite::params![kind.label(), value],
        )
        .doing("lift a revocation")?;
    Ok(removed > 0)
}

/// All, oldest first. An entry that cannot be read fails the whole list: a list with holes would
/// let somebody in.
pub(crate) fn list(db: &Connection) -> Result<Vec<Revocation>, StateError> {
    let mut statement = db
        .prepare_cached(
            "select kind, value, by_oid, reason, at_us from revocations order by at_us, value",
        )
        .doing("prepare revocations")?;
    let mut rows = statement.query([]).doing("read revocations")?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().doing("read a revocation")? {
        let kind: String = row.get(0).doing("read a kind")?;
        entries.push(Revocation {
            kind: RevokedKind::parse(&kind).ok_or(StateError::Corrupt("kind of a revocation"))?,
            value: row.get(1).doing("read a value")?,
            by: row.get(2).doing("read an author")?,
            reason: row.get(3).doing("read a reason")?,
            at_us: row.get(4).doing("read a time")?,
        });
    }
    Ok(entries)
}
