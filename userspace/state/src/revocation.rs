//! The kill list: who may not have a session any more, whatever Entra says.

use weir_model::ident::RevokedKind;

use crate::db::Db;
use crate::error::StateError;

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
pub(crate) fn add(db: &mut Db, entry: &Revocation) -> Result<(), StateError> {
    if entry.reason.trim().is_empty() {
        return Err(StateError::NoJustification);
    }
    if entry.value.len() > VALUE_BYTES_MAX || entry.reason.len() > REASON_BYTES_MAX {
        return Err(StateError::TooLarge);
    }
    let counted = db.query("count revocations", "select count(*) from revocations", &[])?;
    let count = counted.first().map_or(Ok(0), |row| row.integer(0))?;
    if count >= ENTRIES_MAX {
        return Err(StateError::Full);
    }
    let sql = "insert into revocations (kind, value, by_oid, reason, at_us) \
        values (?1, ?2, ?3, ?4, ?5) on conflict do nothing";
    let values = [
        entry.kind.label().into(),
        (&entry.value).into(),
        (&entry.by).into(),
        (&entry.reason).into(),
        entry.at_us.into(),
    ];
    db.execute("add a revocation", sql, &values)?;
    Ok(())
}

/// False when there was no such entry.
pub(crate) fn remove(db: &mut Db, kind: RevokedKind, value: &str) -> Result<bool, StateError> {
    let sql = "delete from revocations where kind = ?1 and value = ?2";
    let removed = db.execute(
        "lift a revocation",
        sql,
        &[kind.label().into(), value.into()],
    )?;
    Ok(removed > 0)
}

/// All, oldest first. An entry that cannot be read fails the whole list: a list with holes would
/// let somebody in.
pub(crate) fn list(db: &mut Db) -> Result<Vec<Revocation>, StateError> {
    let sql = "select kind, value, by_oid, reason, at_us from revocations order by at_us, value";
    let rows = db.query("read revocations", sql, &[])?;
    rows.iter()
        .map(|row| {
            let kind = RevokedKind::parse(&row.text(0)?);
            Ok(Revocation {
                kind: kind.ok_or(StateError::Corrupt("kind of a revocation"))?,
                value: row.text(1)?,
                by: row.text(2)?,
                reason: row.text(3)?,
                at_us: row.integer(4)?,
            })
        })
        .collect()
}
