//! Grants: what a reviewer allows beyond one request, until an absolute time or a revocation.

use weir_model::ident::ApprovalId;
use weir_model::time::Now;

use crate::approval::{ApprovalRow, NewApproval, Reviewer};
use crate::db::{Cells, Db};
use crate::error::StateError;
use crate::rows;

/// Longest grant.
pub const GRANT_SECONDS_MAX: u32 = 86_400;
/// Grants that a list returns, newest first.
const LIST_MAX: i64 = 1000;
/// Grants of one principal that are looked at for one request; more are as good as none.
const LOOK_MAX: i64 = 256;

/// What a grant covers. All of them are for the same principal, application, person, workload,
/// target and database as the request that was approved, and lift only the rules that held it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantScope {
    /// The identical statement, with identical parameters and accesses.
    Statement,
    /// The same statement with other literals, on the same objects.
    Shape,
    /// Any statement that does nothing else to no other objects.
    Object,
    /// Anything of the same session that those rules hold.
    Session,
}

impl GrantScope {
    const ALL: [Self; 4] = [Self::Statement, Self::Shape, Self::Object, Self::Session];

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Statement => "statement",
            Self::Shape => "shape",
            Self::Object => "object",
            Self::Session => "session",
        }
    }

    /// By its label.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.label() == label)
    }
}

/// What a reviewer asks for along with an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantAsk {
    pub scope: GrantScope,
    /// Seconds from the final approval on; 1 to [`GRANT_SECONDS_MAX`].
    pub for_s: u32,
}

/// A stored grant; its id is that of the approval that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub approval: ApprovalRow,
    pub scope: GrantScope,
    /// Unix microseconds.
    pub created_us: i64,
    /// Unix microseconds; nothing begins under it from here on, and what runs is ended.
    pub expires_us: i64,
    /// Requests that it let through, the first one not counted.
    pub uses: i64,
    pub used_us: Option<i64>,
    pub revoked: Option<Revoked>,
}

/// Who took a grant back, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Unix microseconds.
    pub at_us: i64,
    /// `oid`.
    pub by: String,
    pub reason: String,
}

impl Grant {
    /// Whether requests may still begin under it, and what began may go on.
    #[must_use]
    pub const fn is_in_force(&self, now: Now) -> bool {
        self.revoked.is_none() && self.expires_us > now.wall_us
    }

    fn covers(&self, new: &NewApproval) -> bool {
        let had = &self.approval.new;
        let rules = new.rules.iter().all(|rule| had.rules.contains(rule));
        rules
            && match self.scope {
                GrantScope::Statement => same_request(had, new),
                GrantScope::Shape => {
                    new.shape != 0 && had.shape == new.shape && had.accesses == new.accesses
                }
                GrantScope::Object => new
                    .accesses
                    .iter()
                    .all(|access| had.accesses.contains(access)),
                GrantScope::Session => had.session == new.session,
            }
    }
}

/// Nothing of the two differs that a reviewer saw or a server would see.
pub(crate) fn same_request(had: &NewApproval, new: &NewApproval) -> bool {
    had.exact
        && new.exact
        && had.statement == new.statement
        && had.parameters == new.parameters
        && had.accesses == new.accesses
        && new.rules.iter().all(|rule| had.rules.contains(rule))
}

const COLUMNS: &str = "id, scope, created_us, expires_us, uses, used_us, revoked_us, revoked_by, \
    revoked_why";

fn from_row(db: &mut Db, row: &Cells) -> Result<Grant, StateError> {
    let id = ApprovalId::parse(&row.text(0)?).ok_or(StateError::Corrupt("id"))?;
    let revoked = match row.maybe_integer(6)? {
        None => None,
        Some(at_us) => Some(Revoked {
            at_us,
            by: row.text(7)?,
            reason: row.text(8)?,
        }),
    };
    Ok(Grant {
        approval: rows::read(db, id)?.ok_or(StateError::Corrupt("grant"))?,
        scope: GrantScope::parse(&row.text(1)?).ok_or(StateError::Corrupt("scope"))?,
        created_us: row.integer(2)?,
        expires_us: row.integer(3)?,
        uses: row.integer(4)?,
        used_us: row.maybe_integer(5)?,
        revoked,
    })
}

/// After the last approval: a grant when every one of the voters asked for one of that scope, for
/// the shortest time that any of them named.
pub(crate) fn make(db: &mut Db, row: &ApprovalRow, now: Now) -> Result<(), StateError> {
    let mut agreed: Option<GrantAsk> = None;
    for vote in &row.votes {
        let Some(ask) = vote.grant else {
            return Ok(());
        };
        match agreed {
            Some(have) if have.scope != ask.scope => return Ok(()),
            Some(have) if have.for_s <= ask.for_s => {}
            Some(_) | None => agreed = Some(ask),
        }
    }
    let Some(ask) = agreed else { return Ok(()) };
    let sql = "insert into grants (id, scope, created_us, expires_us) values (?1, ?2, ?3, ?4)";
    let values = [
        row.id.to_string().into(),
        ask.scope.label().into(),
        now.wall_us.into(),
        (now.wall_us + i64::from(ask.for_s) * 1_000_000).into(),
    ];
    db.execute("insert a grant", sql, &values)?;
    Ok(())
}

/// A grant in force that covers the request; its use is counted.
pub(crate) fn take(db: &mut Db, new: &NewApproval, now: Now) -> Result<Option<Grant>, StateError> {
    let sql = format!(
        "select {COLUMNS} from grants where revoked_us is null and expires_us > ?1 and id in \
         (select id from approvals where tenant = ?2 and principal = ?3 and application = ?4 \
         and on_behalf_of = ?5 and workload = ?6 and target = ?7 and database = ?8) \
         order by id limit {LOOK_MAX}"
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
    ];
    let found = db.query("look for grants", &sql, &values)?;
    for row in &found {
        let grant = from_row(db, row)?;
        if grant.covers(new) {
            let sql = "update grants set uses = uses + 1, used_us = ?2 where id = ?1";
            let id = grant.approval.id.to_string();
            db.execute("count a use", sql, &[id.into(), now.wall_us.into()])?;
            return Ok(Some(grant));
        }
    }
    Ok(None)
}

/// Newest first.
pub(crate) fn list(db: &mut Db) -> Result<Vec<Grant>, StateError> {
    let sql = format!("select {COLUMNS} from grants order by id desc limit {LIST_MAX}");
    let found = db.query("list grants", &sql, &[])?;
    found.iter().map(|row| from_row(db, row)).collect()
}

pub(crate) fn get(db: &mut Db, id: ApprovalId) -> Result<Option<Grant>, StateError> {
    let sql = format!("select {COLUMNS} from grants where id = ?1");
    let found = db.query("read a grant", &sql, &[id.to_string().into()])?;
    found.first().map(|row| from_row(db, row)).transpose()
}

/// Takes a grant back: any reviewer of the groups that decide such requests may.
pub(crate) fn revoke(
    db: &mut Db,
    id: ApprovalId,
    (reviewer, reason): (&Reviewer, &str),
    now: Now,
) -> Result<Grant, StateError> {
    let grant = get(db, id)?.ok_or(StateError::NotFound)?;
    let asked = &grant.approval.new;
    let mut groups = asked.groups.iter().chain(&asked.escalate_groups);
    if !groups.any(|group| reviewer.groups.contains(group)) {
        return Err(StateError::NotReviewer);
    }
    let sql = "update grants set revoked_us = ?2, revoked_by = ?3, revoked_why = ?4 \
        where id = ?1 and revoked_us is null";
    let values = [
        id.to_string().into(),
        now.wall_us.into(),
        (&reviewer.oid).into(),
        reason.into(),
    ];
    db.execute("revoke a grant", sql, &values)?;
    get(db, id)?.ok_or(StateError::NotFound)
}
