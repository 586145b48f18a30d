//! The synchronous core: one SQLite file.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior};
use uuid::Uuid;
use weir_model::ident::{ApprovalId, RevokedKind, SessionId};
use weir_model::time::Now;

use crate::approval::{
    ApprovalRow, ApprovalState, Decided, Decision, NewApproval, Prior, PriorKey, Reviewer, Vote,
};
use crate::error::{Doing, StateError};
use crate::revocation::{self, Revocation};

/// Requests that may wait at once; each keeps a client's connection open.
const PENDING_MAX: i64 = 10_000;
/// Bytes of one held request, all texts together.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a justification.
const JUSTIFICATION_BYTES_MAX: usize = 4096;
/// Rows that a list returns, newest first.
const LIST_MAX: i64 = 1000;
/// Another process (a backup, an upgrade) may hold the file for a moment.
const BUSY: Duration = Duration::from_secs(5);
/// Layout of the tables; kept in `user_version`.
const LAYOUT: i64 = 2;

const TABLES: &str = "
create table approvals (
    id text primary key, created_us integer not null, expires_us integer not null,
    session text not null, seq integer not null, tenant text not null, principal text not null,
    application text not null, on_behalf_of text not null, workload text not null,
    target text not null, database text not null, statement text not null,
    parameters text not null, accesses text not null, process text not null,
    rules text not null, groups text not null, reason text not null,
    state text not null, decided_us integer, approver text not null default '',
    justification text not null default ''
) strict;
create index approvals_state on approvals (state, expires_us);
create table votes (
    approval text not null references approvals (id), group_name text not null,
    tenant text not null, oid text not null, name text not null, justification text not null,
    at_us integer not null, primary key (approval, group_name)
) strict;
";

const COLUMNS: &str = "id, created_us, expires_us, session, seq, tenant, principal, application, \
    on_behalf_of, workload, target, database, statement, parameters, accesses, process, rules, \
    groups, reason, state, decided_us, approver, justification";

/// Approvals and the kill list in one SQLite file, mode 0600.
#[derive(Debug)]
pub struct StateStore {
    db: Connection,
}

impl StateStore {
    /// Opens or makes the file. Its directory has to be closed to other users.
    ///
    /// # Errors
    /// The file cannot be made, is a symbolic link, or is not a state store of this version.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // Made before SQLite sees it, so that it (and -wal, -shm, which copy its mode) never is
        // readable by others.
        let made = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(_file) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let have = std::fs::symlink_metadata(path).map_err(StateError::File)?;
                if !have.is_file() {
                    return Err(StateError::File(error));
                }
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
                    .map_err(StateError::File)?;
            }
            Err(error) => return Err(StateError::File(error)),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut db = Connection::open_with_flags(path, flags).doing("open")?;
        db.busy_timeout(BUSY).doing("busy timeout")?;
        // A decision that was told to a reviewer survives the power as well.
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;",
        )
        .doing("pragmas")?;
        lay_out(&mut db)?;
        Ok(Self { db })
    }

    /// Adds to the kill list; what is on it already stays as it is.
    ///
    /// # Errors
    /// No reason, too large, too many, or the store failed.
    pub fn revoke(&mut self, entry: &Revocation) -> Result<(), StateError> {
        revocation::add(&self.db, entry)
    }

    /// Takes an entry back; false when there was none.
    ///
    /// # Errors
    /// The store failed.
    pub fn lift(&mut self, kind: RevokedKind, value: &str) -> Result<bool, StateError> {
        revocation::remove(&self.db, kind, value)
    }

    /// The kill list, oldest first.
    ///
    /// # Errors
    /// The store failed, or holds an entry that cannot be read.
    pub fn revocations(&self) -> Result<Vec<Revocation>, StateError> {
        revocation::list(&self.db)
    }

    /// Stores a held request as pending; the id sorts by time.
    ///
    /// # Errors
    /// Too large, too many pending, no group named, or the store failed.
    pub fn create(&mut self, new: &NewApproval) -> Result<ApprovalId, StateError> {
        if new.groups.is_empty() {
            return Err(StateError::NoGroups);
        }
        if bytes_of(new) > REQUEST_BYTES_MAX {
            return Err(StateError::TooLarge);
        }
        let id = ApprovalId(Uuid::now_v7().as_u128());
        let tx = begin(&mut self.db)?;
        let pending: i64 = tx
            .query_row(
                "select count(*) from approvals where state = 'pending'",
                [],
                |row| row.get(0),
            )
            .doing("count pending")?;
        if pending >= PENDING_MAX {
            return Err(StateError::Full);
        }
        insert(&tx, id, new)?;
        tx.commit().doing("commit a held request")?;
        Ok(id)
    }

    /// Takes one reviewer's word. A denial is final; an approval counts for each of the
    /// reviewer's groups, and the request is approved when no required group is missing.
    ///
    /// # Errors
    /// Why this reviewer may not decide this request now, or the store failed.
    pub fn decide(
        &mut self,
        id: ApprovalId,
        decision: &Decision,
        now: Now,
    ) -> Result<ApprovalRow, StateError> {
        let justification = decision.justification.trim();
        if justification.is_empty() {
            return Err(StateError::NoJustification);
        }
        if justification.len() > JUSTIFICATION_BYTES_MAX {
            return Err(StateError::TooLarge);
        }
        let tx = begin(&mut self.db)?;
        let row = read(&tx, id)?.ok_or(StateError::NotFound)?;
        if row.state != ApprovalState::Pending {
            return Err(StateError::NotPending(row.state));
        }
        if row.new.expires_us <= now.wall_us {
            return Err(StateError::Expired);
        }
        let reviewer = &decision.reviewer;
        if own(&row.new, reviewer) {
            return Err(StateError::OwnRequest);
        }
        let mine: Vec<&String> = row
            .new
            .groups
            .iter()
            .filter(|group| reviewer.groups.contains(group))
            .collect();
        if mine.is_empty() {
            return Err(StateError::NotReviewer);
        }
        if decision.approve {
            approve(&tx, &row, &mine, reviewer, (justification, now))?;
        } else {
            settle(
                &tx,
                id,
                ApprovalState::Denied,
                (&reviewer.name, justification),
                now,
            )?;
        }
        let row = read(&tx, id)?.ok_or(StateError::NotFound)?;
        tx.commit().doing("commit a decision")?;
        Ok(row)
    }

    /// Newest first, at most 1,000.
    ///
    /// # Errors
    /// The store failed.
    pub fn list(&self) -> Result<Vec<ApprovalRow>, StateError> {
        let sql = format!("select {COLUMNS} from approvals order by id desc limit {LIST_MAX}");
        let mut statement = self.db.prepare_cached(&sql).doing("prepare the list")?;
        let mut rows = statement.query([]).doing("list")?;
        let mut list = Vec::new();
        while let Some(row) = rows.next().doing("list")? {
            list.push(from_row(&self.db, row)?);
        }
        Ok(list)
    }

    /// One approval, if there is one of this id.
    ///
    /// # Errors
    /// The store failed.
    pub fn get(&self, id: ApprovalId) -> Result<Option<ApprovalRow>, StateError> {
        read(&self.db, id)
    }

    /// Ends every pending or approved-but-unused request whose time is over; how many.
    ///
    /// # Errors
    /// The store failed.
    pub fn expire_due(&mut self, now: Now) -> Result<usize, StateError> {
        self.db
            .execute(
                "update approvals set state = 'expired', decided_us = ?1 \
                 where state in ('pending', 'approved') and expires_us <= ?1",
                [now.wall_us],
            )
            .doing("expire")
    }

    /// Uses an approval up: true exactly once, and only while it is approved and not expired.
    ///
    /// # Errors
    /// The store failed.
    pub fn mark_used(&mut self, id: ApprovalId, now: Now) -> Result<bool, StateError> {
        let changed = self
            .db
            .execute(
                "update approvals set state = 'used' \
                 where id = ?1 and state = 'approved' and expires_us > ?2",
                rusqlite::params![id.to_string(), now.wall_us],
            )
            .doing("use an approval")?;
        Ok(changed == 1)
    }

    /// The client is gone: nobody can decide any more. Decided requests stay as they are.
    ///
    /// # Errors
    /// The store failed.
    pub fn abandon(&mut self, id: ApprovalId, now: Now) -> Result<bool, StateError> {
        let changed = self
            .db
            .execute(
                "update approvals set state = 'abandoned', decided_us = ?2 \
                 where id = ?1 and state = 'pending'",
                rusqlite::params![id.to_string(), now.wall_us],
            )
            .doing("abandon")?;
        Ok(changed == 1)
    }

    /// The outcome if there is one; an approval is used up by this, so one waiter gets it.
    ///
    /// # Errors
    /// No such approval, or the store failed.
    pub fn claim(&mut self, id: ApprovalId, now: Now) -> Result<Option<Decided>, StateError> {
        let row = read(&self.db, id)?.ok_or(StateError::NotFound)?;
        let over = row.new.expires_us <= now.wall_us;
        let state = match row.state {
            ApprovalState::Approved if self.mark_used(id, now)? => ApprovalState::Approved,
            ApprovalState::Pending if !over => return Ok(None),
            ApprovalState::Pending | ApprovalState::Approved => {
                self.expire_due(now)?;
                ApprovalState::Expired
            }
            ApprovalState::Denied
            | ApprovalState::Expired
            | ApprovalState::Used
            | ApprovalState::Abandoned => row.state,
        };
        Ok(Some(Decided {
            state,
            approver: row.approver,
            justification: row.justification,
        }))
    }

    /// Uses up the decision of a session that is gone: everything in `key` must be identical.
    ///
    /// # Errors
    /// The store failed.
    pub fn take_prior_decision(
        &mut self,
        key: &PriorKey,
        now: Now,
    ) -> Result<Option<Prior>, StateError> {
        let found: Option<String> = self
            .db
            .query_row(
                "select id from approvals where state = 'approved' and expires_us > ?1 \
                 and tenant = ?2 and principal = ?3 and application = ?4 and on_behalf_of = ?5 \
                 and workload = ?6 and target = ?7 and database = ?8 and statement = ?9 \
                 and parameters = ?10 order by id limit 1",
                rusqlite::params![
                    now.wall_us,
                    key.tenant,
                    key.principal,
                    key.application,
                    key.on_behalf_of,
                    key.workload,
                    key.target,
                    key.database,
                    key.statement,
                    key.parameters
                ],
                |row| row.get(0),
            )
            .optional()
            .doing("look for a prior decision")?;
        let Some(text) = found else { return Ok(None) };
        let id = ApprovalId::parse(&text).ok_or(StateError::Corrupt("id"))?;
        let row = read(&self.db, id)?.ok_or(StateError::NotFound)?;
        if !self.mark_used(id, now)? {
            return Ok(None);
        }
        Ok(Some(Prior {
            approval: id,
            rules: row.new.rules,
            approver: row.approver,
        }))
    }
}

fn lay_out(db: &mut Connection) -> Result<(), StateError> {
    let tx = begin(db)?;
    let layout: i64 = tx
        .query_row("pragma user_version", [], |row| row.get(0))
        .doing("read the layout")?;
    match layout {
        LAYOUT => return Ok(()),
        0 => tx.execute_batch(TABLES).doing("make the tables")?,
        1 => {}
        _ => return Err(StateError::TooNew),
    }
    tx.execute_batch(revocation::TABLE)
        .doing("make the kill list")?;
    tx.pragma_update(None, "user_version", LAYOUT)
        .doing("write the layout")?;
    tx.commit().doing("commit the layout")
}

fn begin(db: &mut Connection) -> Result<Transaction<'_>, StateError> {
    // Immediate: what is read decides what is written, also against another process.
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .doing("begin")
}

fn bytes_of(new: &NewApproval) -> usize {
    let texts = [
        &new.statement,
        &new.parameters,
        &new.process,
        &new.reason,
        &new.database,
    ];
    let lists = [&new.accesses, &new.rules, &new.groups];
    texts.iter().map(|text| text.len()).sum::<usize>()
        + lists
            .iter()
            .flat_map(|list| list.iter())
            .map(String::len)
            .sum::<usize>()
}

fn list_text(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

fn insert(tx: &Transaction<'_>, id: ApprovalId, new: &NewApproval) -> Result<(), StateError> {
    tx.execute(
        "insert into approvals (id, created_us, expires_us, session, seq, tenant, principal, \
         application, on_behalf_of, workload, target, database, statement, parameters, accesses, \
         process, rules, groups, reason, state) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
         ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, 'pending')",
        rusqlite::params![
            id.to_string(),
            new.created_us,
            new.expires_us,
            new.session.to_string(),
            new.seq,
            new.tenant,
            new.principal,
            new.application,
            new.on_behalf_of,
            new.workload,
            new.target,
            new.database,
            new.statement,
            new.parameters,
            list_text(&new.accesses),
            new.process,
            list_text(&new.rules),
            list_text(&new.groups),
            new.reason
        ],
    )
    .doing("insert a held request")?;
    Ok(())
}

/// An `oid` with or without its tenant in front.
fn bare(oid: &str) -> &str {
    oid.rsplit('/').next().unwrap_or(oid)
}

fn own(new: &NewApproval, reviewer: &Reviewer) -> bool {
    let me = bare(&reviewer.oid);
    // A reviewer without an identity would equal an absent person.
    me.is_empty()
        || bare(&new.principal).eq_ignore_ascii_case(me)
        || bare(&new.on_behalf_of).eq_ignore_ascii_case(me)
}

fn approve(
    tx: &Transaction<'_>,
    row: &ApprovalRow,
    mine: &[&String],
    reviewer: &Reviewer,
    (justification, now): (&str, Now),
) -> Result<(), StateError> {
    let mut added = 0;
    for group in mine {
        added += tx
            .execute(
                "insert into votes values (?1, ?2, ?3, ?4, ?5, ?6, ?7) on conflict do nothing",
                rusqlite::params![
                    row.id.to_string(),
                    group,
                    reviewer.tenant,
                    reviewer.oid,
                    reviewer.name,
                    justification,
                    now.wall_us
                ],
            )
            .doing("insert a vote")?;
    }
    if added == 0 {
        return Err(StateError::AlreadyApproved);
    }
    let votes = votes(tx, row.id)?;
    if row
        .new
        .groups
        .iter()
        .any(|group| !votes.iter().any(|vote| vote.group == *group))
    {
        return Ok(());
    }
    let mut names: Vec<&str> = Vec::new();
    let mut words: Vec<&str> = Vec::new();
    for vote in &votes {
        if !names.contains(&vote.name.as_str()) {
            names.push(&vote.name);
            words.push(&vote.justification);
        }
    }
    settle(
        tx,
        row.id,
        ApprovalState::Approved,
        (&names.join(", "), &words.join("; ")),
        now,
    )
}

fn settle(
    tx: &Transaction<'_>,
    id: ApprovalId,
    state: ApprovalState,
    (approver, justification): (&str, &str),
    now: Now,
) -> Result<(), StateError> {
    tx.execute(
        "update approvals set state = ?2, approver = ?3, justification = ?4, decided_us = ?5 \
         where id = ?1",
        rusqlite::params![
            id.to_string(),
            state.label(),
            approver,
            justification,
            now.wall_us
        ],
    )
    .doing("settle")?;
    Ok(())
}

fn read(db: &Connection, id: ApprovalId) -> Result<Option<ApprovalRow>, StateError> {
    let sql = format!("select {COLUMNS} from approvals where id = ?1");
    let mut statement = db.prepare_cached(&sql).doing("prepare a read")?;
    let mut rows = statement
        .query([id.to_string()])
        .doing("read an approval")?;
    match rows.next().doing("read an approval")? {
        Some(row) => from_row(db, row).map(Some),
        None => Ok(None),
    }
}

fn votes(db: &Connection, id: ApprovalId) -> Result<Vec<Vote>, StateError> {
    let mut statement = db
        .prepare_cached(
            "select group_name, tenant, oid, name, justification, at_us from votes \
             where approval = ?1 order by at_us, group_name",
        )
        .doing("prepare votes")?;
    statement
        .query_map([id.to_string()], |row| {
            Ok(Vote {
                group: row.get(0)?,
                tenant: row.get(1)?,
                oid: row.get(2)?,
                name: row.get(3)?,
                justification: row.get(4)?,
                at_us: row.get(5)?,
            })
        })
        .and_then(Iterator::collect)
        .doing("read votes")
}

fn from_row(db: &Connection, row: &Row<'_>) -> Result<ApprovalRow, StateError> {
    let text = |index: usize| row.get::<_, String>(index).doing("read a text");
    let list = |index: usize| -> Result<Vec<String>, StateError> {
        serde_json::from_str(&text(index)?).map_err(|_error| StateError::Corrupt("list"))
    };
    let id = ApprovalId::parse(&text(0)?).ok_or(StateError::Corrupt("id"))?;
    let new = NewApproval {
        created_us: row.get(1).doing("read created_us")?,
        expires_us: row.get(2).doing("read expires_us")?,
        session: SessionId::parse(&text(3)?).ok_or(StateError::Corrupt("session"))?,
        seq: row.get(4).doing("read seq")?,
        tenant: text(5)?,
        principal: text(6)?,
        application: text(7)?,
        on_behalf_of: text(8)?,
        workload: text(9)?,
        target: text(10)?,
        database: text(11)?,
        statement: text(12)?,
        parameters: text(13)?,
        accesses: list(14)?,
        process: text(15)?,
        rules: list(16)?,
        groups: list(17)?,
        reason: text(18)?,
    };
    Ok(ApprovalRow {
        id,
        state: ApprovalState::parse(&text(19)?).ok_or(StateError::Corrupt("state"))?,
        new,
        decided_us: row.get(20).doing("read decided_us")?,
        approver: text(21)?,
        justification: text(22)?,
        votes: votes(db, id)?,
    })
}
