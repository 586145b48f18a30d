//! The synchronous core: who may decide, and what is used how often.

use std::collections::BTreeSet;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;
use weir_model::ident::{ApprovalId, RevokedKind, SessionId};
use weir_model::time::Now;

use crate::approval::{
    ApprovalRow, ApprovalState, Decided, Decision, NewApproval, Reviewer, Standing,
};
use crate::connect::ServerPlace;
use crate::db::{Db, Value};
use crate::error::{Doing, StateError};
use crate::grant::{self, GRANT_SECONDS_MAX, Grant};
use crate::layout;
use crate::revocation::{self, Revocation};
use crate::rows::{self, COLUMNS};
use crate::server::{CHANNEL, ServerLink};

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
/// A process that did not say for so long that it lives is gone: its requests wait for nobody.
const OWNER_GONE_US: i64 = 20_000_000;

/// Approvals, grants and the kill list.
#[derive(Debug)]
pub struct StateStore {
    db: Db,
    /// This process, as `owner` of what it waits for.
    instance: String,
}

impl StateStore {
    /// Opens or makes an SQLite file, mode 0600. Its directory has to be closed to other users.
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
        let db = Connection::open_with_flags(path, flags).doing("open")?;
        db.busy_timeout(BUSY).doing("busy timeout")?;
        // A decision that was told to a reviewer survives the power as well.
        db.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on;",
        )
        .doing("pragmas")?;
        Self::over(Db::File(db))
    }

    /// Opens a database of a PostgreSQL server, which several nodes may share.
    ///
    /// # Errors
    /// It cannot be reached, or holds a layout of a newer version.
    pub fn open_server(place: ServerPlace) -> Result<Self, StateError> {
        Self::over(Db::Server(Box::new(ServerLink::open(place)?)))
    }

    fn over(mut db: Db) -> Result<Self, StateError> {
        layout::lay_out(&mut db)?;
        Ok(Self {
            db,
            instance: Uuid::now_v7().to_string(),
        })
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&mut Db, &str) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let instance = &self.instance;
        self.db.transaction(|db| {
            let value = work(db, instance)?;
            if matches!(db, Db::Server(_)) {
                // Told when it is committed.
                db.batch("tell the other nodes", &format!("notify {CHANNEL}"))?;
            }
            Ok(value)
        })
    }

    /// Says that this process lives. `alone`: no other process of this node does, so that what an
    /// earlier one waited for is nobody's at once.
    ///
    /// # Errors
    /// The store failed.
    pub fn beat(&mut self, node: &str, alone: bool, now: Now) -> Result<(), StateError> {
        let instance = &self.instance;
        self.db.transaction(|db| {
            if alone {
                let sql = "delete from owners where node = ?1 and instance <> ?2";
                db.execute("forget owners", sql, &[node.into(), instance.into()])?;
            }
            let sql = "insert into owners (instance, node, seen_us) values (?1, ?2, ?3) \
                on conflict (instance) do update set seen_us = ?3";
            let values = [instance.into(), node.into(), now.wall_us.into()];
            db.execute("note an owner", sql, &values)?;
            let sql = "delete from owners where seen_us < ?1";
            let day_us = 86_400_000_000;
            db.execute("forget owners", sql, &[(now.wall_us - day_us).into()])?;
            Ok(())
        })
    }

    /// Adds to the kill list; what is on it already stays as it is.
    ///
    /// # Errors
    /// No reason, too large, too many, or the store failed.
    pub fn revoke(&mut self, entry: &Revocation) -> Result<(), StateError> {
        self.change(|db, _| revocation::add(db, entry))
    }

    /// Takes an entry back; false when there was none.
    ///
    /// # Errors
    /// The store failed.
    pub fn lift(&mut self, kind: RevokedKind, value: &str) -> Result<bool, StateError> {
        self.change(|db, _| revocation::remove(db, kind, value))
    }

    /// The kill list, oldest first.
    ///
    /// # Errors
    /// The store failed, or holds an entry that cannot be read.
    pub fn revocations(&mut self) -> Result<Vec<Revocation>, StateError> {
        self.db.transaction(revocation::list)
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
        self.change(|db, instance| {
            let sql = "select count(*) from approvals where state = 'pending'";
            let counted = db.query("count pending", sql, &[])?;
            let pending = counted.first().map_or(Ok(0), |row| row.integer(0))?;
            if pending >= PENDING_MAX {
                return Err(StateError::Full);
            }
            rows::insert(db, id, new, instance)
        })?;
        Ok(id)
    }

    /// What was decided already about such a request: a grant that covers it, or the decision on,
    /// or the wait for, an identical request whose process is gone. `waiting` are the requests
    /// that this process waits for; nobody takes those away.
    ///
    /// # Errors
    /// The store failed.
    pub fn standing(
        &mut self,
        new: &NewApproval,
        waiting: &BTreeSet<ApprovalId>,
        now: Now,
    ) -> Result<Option<Standing>, StateError> {
        self.change(|db, instance| {
            if let Some(grant) = grant::take(db, new, now)? {
                return Ok(Some(Standing::Grant {
                    approval: grant.approval.id,
                    approver: grant.approval.approver,
                    expires_us: grant.expires_us,
                }));
            }
            let Some(row) = orphan(db, new, waiting, (instance, now))? else {
                return Ok(None);
            };
            if row.state == ApprovalState::Approved {
                let used = mark_used(db, row.id, now)?;
                return Ok(used.then_some(Standing::Prior {
                    approval: row.id,
                    approver: row.approver,
                }));
            }
            adopt(db, row.id, instance, Some((new.session, new.seq)))?;
            Ok(Some(Standing::Pending(row.id)))
        })
    }

    /// This process waits for it from now on.
    ///
    /// # Errors
    /// The store failed.
    pub fn adopt(&mut self, id: ApprovalId) -> Result<(), StateError> {
        self.change(|db, instance| adopt(db, id, instance, None))
    }

    /// Takes one reviewer's word. A denial is final; an approval counts for each of the
    /// reviewer's groups, and the request is approved when no required group and no required
    /// person is missing.
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
        if let Some(ask) = decision.grant
            && (!decision.approve || !(1..=GRANT_SECONDS_MAX).contains(&ask.for_s))
        {
            return Err(StateError::BadGrant);
        }
        let said = (decision, justification, now);
        self.change(|db, _| decide(db, id, said))
    }

    /// Newest first, at most 1,000.
    ///
    /// # Errors
    /// The store failed.
    pub fn list(&mut self) -> Result<Vec<ApprovalRow>, StateError> {
        let sql = format!("select {COLUMNS} from approvals order by id desc limit {LIST_MAX}");
        self.db.transaction(|db| rows::read_all(db, &sql, &[]))
    }

    /// One approval, if there is one of this id.
    ///
    /// # Errors
    /// The store failed.
    pub fn get(&mut self, id: ApprovalId) -> Result<Option<ApprovalRow>, StateError> {
        self.db.transaction(|db| rows::read(db, id))
    }

    /// Grants, newest first, at most 1,000.
    ///
    /// # Errors
    /// The store failed.
    pub fn grants(&mut self) -> Result<Vec<Grant>, StateError> {
        self.db.transaction(grant::list)
    }

    /// The grant that came of an approval.
    ///
    /// # Errors
    /// The store failed.
    pub fn grant(&mut self, id: ApprovalId) -> Result<Option<Grant>, StateError> {
        self.db.transaction(|db| grant::get(db, id))
    }

    /// Takes a grant back; one that was taken back already stays as it is.
    ///
    /// # Errors
    /// There is no such grant, the reviewer may not, no reason, or the store failed.
    pub fn revoke_grant(
        &mut self,
        id: ApprovalId,
        (reviewer, reason): (&Reviewer, &str),
        now: Now,
    ) -> Result<Grant, StateError> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(StateError::NoJustification);
        }
        if reason.len() > JUSTIFICATION_BYTES_MAX {
            return Err(StateError::TooLarge);
        }
        self.change(|db, _| grant::revoke(db, id, (reviewer, reason), now))
    }

    /// Ends every pending or approved-but-unused request whose time is over; how many.
    ///
    /// # Errors
    /// The store failed.
    pub fn expire_due(&mut self, now: Now) -> Result<usize, StateError> {
        self.db.transaction(|db| expire_due(db, now))
    }

    /// Uses an approval up: true exactly once, and only while it is approved and not expired.
    ///
    /// # Errors
    /// The store failed.
    pub fn mark_used(&mut self, id: ApprovalId, now: Now) -> Result<bool, StateError> {
        self.change(|db, _| mark_used(db, id, now))
    }

    /// The client is gone: nobody can decide any more. Decided requests stay as they are.
    ///
    /// # Errors
    /// The store failed.
    pub fn abandon(&mut self, id: ApprovalId, now: Now) -> Result<bool, StateError> {
        self.change(|db, _| {
            let sql = "update approvals set state = 'abandoned', decided_us = ?2 \
                where id = ?1 and state = 'pending'";
            let values = [id.to_string().into(), now.wall_us.into()];
            Ok(db.execute("abandon", sql, &values)? == 1)
        })
    }

    /// The outcome if there is one; an approval is used up by this, so one waiter gets it.
    ///
    /// # Errors
    /// No such approval, or the store failed.
    pub fn claim(&mut self, id: ApprovalId, now: Now) -> Result<Option<Decided>, StateError> {
        self.db.transaction(|db| {
            let row = rows::read(db, id)?.ok_or(StateError::NotFound)?;
            let over = row.new.expires_us <= now.wall_us;
            let state = match row.state {
                ApprovalState::Approved if mark_used(db, id, now)? => ApprovalState::Approved,
                ApprovalState::Pending if !over => return Ok(None),
                ApprovalState::Pending | ApprovalState::Approved => {
                    expire_due(db, now)?;
                    ApprovalState::Expired
                }
                ApprovalState::Denied
                | ApprovalState::Expired
                | ApprovalState::Used
                | ApprovalState::Abandoned => row.state,
            };
            let grant = grant::get(db, id)?.filter(|grant| grant.is_in_force(now));
            Ok(Some(Decided {
                state,
                approver: row.approver,
                justification: row.justification,
                grant_expires_us: grant.map(|grant| grant.expires_us),
                at_timeout: row.new.at_timeout,
            }))
        })
    }
}

fn decide(
    db: &mut Db,
    id: ApprovalId,
    (decision, justification, now): (&Decision, &str, Now),
) -> Result<ApprovalRow, StateError> {
    let row = rows::read(db, id)?.ok_or(StateError::NotFound)?;
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
    let mine = groups_of(&row, reviewer, now);
    if mine.is_empty() {
        return Err(StateError::NotReviewer);
    }
    if decision.approve {
        approve(db, &row, &mine, (decision, justification, now))?;
    } else {
        let words = (reviewer.name.as_str(), justification);
        settle(db, id, ApprovalState::Denied, words, now)?;
    }
    rows::read(db, id)?.ok_or(StateError::NotFound)
}

/// The groups for which a reviewer's word counts: their own, or after escalation those that nobody
/// has spoken for.
fn groups_of<'a>(row: &'a ApprovalRow, reviewer: &Reviewer, now: Now) -> Vec<&'a String> {
    let new = &row.new;
    let escalated = new.escalate_us > 0
        && new.escalate_us <= now.wall_us
        && new
            .escalate_groups
            .iter()
            .any(|group| reviewer.groups.contains(group));
    new.groups
        .iter()
        .filter(|group| {
            let open = !row.votes.iter().any(|vote| vote.group == **group);
            reviewer.groups.contains(group) || (escalated && (open || new.groups.len() == 1))
        })
        .collect()
}

fn approve(
    db: &mut Db,
    row: &ApprovalRow,
    mine: &[&String],
    (decision, justification, now): (&Decision, &str, Now),
) -> Result<(), StateError> {
    let reviewer = &decision.reviewer;
    let sql = "insert into ballots (approval, group_name, tenant, oid, name, justification, \
        at_us, scope, for_s) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) on conflict do nothing";
    let scope = decision.grant.map_or("", |ask| ask.scope.label());
    let mut added = 0;
    for group in mine {
        let values = [
            row.id.to_string().into(),
            (*group).into(),
            (&reviewer.tenant).into(),
            // One person is one person, however the id is written.
            bare(&reviewer.oid).to_ascii_lowercase().into(),
            (&reviewer.name).into(),
            justification.into(),
            now.wall_us.into(),
            scope.into(),
            decision.grant.map_or(0, |ask| ask.for_s).into(),
        ];
        added += db.execute("insert a vote", sql, &values)?;
    }
    if added == 0 {
        return Err(StateError::AlreadyApproved);
    }
    let votes = rows::votes(db, row.id)?;
    let missing = |group: &String| !votes.iter().any(|vote| vote.group == *group);
    let people: BTreeSet<&str> = votes.iter().map(|vote| vote.oid.as_str()).collect();
    if row.new.groups.iter().any(missing) || people.len() < row.new.approvals as usize {
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
    let said = (&*names.join(", "), &*words.join("; "));
    settle(db, row.id, ApprovalState::Approved, said, now)?;
    let decided = rows::read(db, row.id)?.ok_or(StateError::NotFound)?;
    grant::make(db, &decided, now)
}

fn settle(
    db: &mut Db,
    id: ApprovalId,
    state: ApprovalState,
    (approver, justification): (&str, &str),
    now: Now,
) -> Result<(), StateError> {
    let sql = "update approvals set state = ?2, approver = ?3, justification = ?4, \
        decided_us = ?5 where id = ?1";
    let values = [
        id.to_string().into(),
        state.label().into(),
        approver.into(),
        justification.into(),
        now.wall_us.into(),
    ];
    db.execute("settle", sql, &values)?;
    Ok(())
}

fn mark_used(db: &mut Db, id: ApprovalId, now: Now) -> Result<bool, StateError> {
    let sql = "update approvals set state = 'used' \
        where id = ?1 and state = 'approved' and expires_us > ?2";
    let values = [id.to_string().into(), now.wall_us.into()];
    Ok(db.execute("use an approval", sql, &values)? == 1)
}

fn expire_due(db: &mut Db, now: Now) -> Result<usize, StateError> {
    let sql = "update approvals set state = 'expired', decided_us = ?1 \
        where state in ('pending', 'approved') and expires_us <= ?1";
    db.execute("expire", sql, &[now.wall_us.into()])
}

fn adopt(
    db: &mut Db,
    id: ApprovalId,
    instance: &str,
    session: Option<(SessionId, u32)>,
) -> Result<(), StateError> {
    let id = Value::from(id.to_string());
    let sql = "update approvals set owner = ?2 where id = ?1";
    db.execute("adopt", sql, &[id.clone(), instance.into()])?;
    if let Some((session, seq)) = session {
        let sql = "update approvals set session = ?2, seq = ?3 where id = ?1";
        let values = [id, session.to_string().into(), seq.into()];
        db.execute("adopt", sql, &values)?;
    }
    Ok(())
}

/// An identical request that waits, or was approved, for a process that is gone.
fn orphan(
    db: &mut Db,
    new: &NewApproval,
    waiting: &BTreeSet<ApprovalId>,
    (instance, now): (&str, Now),
) -> Result<Option<ApprovalRow>, StateError> {
    if !new.exact {
        return Ok(None);
    }
    let sql = format!(
        "select {COLUMNS} from approvals where state in ('approved', 'pending') \
         and expires_us > ?1 and tenant = ?2 and principal = ?3 and application = ?4 \
         and on_behalf_of = ?5 and workload = ?6 and target = ?7 and database = ?8 \
         and statement = ?9 and parameters = ?10 \
         and (owner = ?11 or owner not in (select instance from owners where seen_us > ?12)) \
         order by state, id limit 64"
    );
    let values = [
        now.wall_us.into(),
        (&new.tenant).into(),
        (&new.principal).into(),
        (&new.application).into(),
        (&new.on_behalf_of).into(),
        (&new.workload).into(),
        (&new.target).into(),
        (&new.database).into(),
        (&new.statement).into(),
        (&new.parameters).into(),
        instance.into(),
        (now.wall_us - OWNER_GONE_US).into(),
    ];
    let found = rows::read_all(db, &sql, &values)?;
    Ok(found
        .into_iter()
        .find(|row| grant::same_request(&row.new, new) && !waiting.contains(&row.id)))
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
