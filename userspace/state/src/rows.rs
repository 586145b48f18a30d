//! Approvals as rows.

use weir_model::effect::Effect;
use weir_model::ident::{ApprovalId, SessionId};

use crate::approval::{ApprovalRow, ApprovalState, NewApproval, TimeoutAction, Vote};
use crate::db::{Cells, Db, Value, list_text};
use crate::error::StateError;
use crate::grant::{GrantAsk, GrantScope};

pub(crate) const COLUMNS: &str = "id, created_us, expires_us, session, seq, tenant, principal, \
    application, on_behalf_of, workload, target, database, statement, parameters, accesses, \
    process, rules, groups, reason, approvals, escalate_us, escalate_groups, at_timeout, shape, \
    exact, owner, state, decided_us, approver, justification, effect";

pub(crate) fn insert(
    db: &mut Db,
    id: ApprovalId,
    new: &NewApproval,
    owner: &str,
) -> Result<(), StateError> {
    let sql = "insert into approvals (id, created_us, expires_us, session, seq, tenant, \
        principal, application, on_behalf_of, workload, target, database, statement, parameters, \
        accesses, process, rules, groups, reason, approvals, escalate_us, escalate_groups, \
        at_timeout, shape, exact, owner, effect, state) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
        ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, 'pending')";
    let values = [
        id.to_string().into(),
        new.created_us.into(),
        new.expires_us.into(),
        new.session.to_string().into(),
        new.seq.into(),
        (&new.tenant).into(),
        (&new.principal).into(),
        (&new.application).into(),
        (&new.on_behalf_of).into(),
        (&new.workload).into(),
        (&new.target).into(),
        (&new.database).into(),
        (&new.statement).into(),
        (&new.parameters).into(),
        list_text(&new.accesses),
        (&new.process).into(),
        list_text(&new.rules),
        list_text(&new.groups),
        (&new.reason).into(),
        new.approvals.into(),
        new.escalate_us.into(),
        list_text(&new.escalate_groups),
        new.at_timeout.label().into(),
        shape_text(new.shape).into(),
        i64::from(new.exact).into(),
        owner.into(),
        effect_text(new.effect.as_ref())?.into(),
    ];
    db.execute("insert a held request", sql, &values)?;
    Ok(())
}

/// Empty for none.
fn effect_text(effect: Option<&Effect>) -> Result<String, StateError> {
    effect.map_or_else(
        || Ok(String::new()),
        |effect| serde_json::to_string(effect).map_err(|_error| StateError::Corrupt("effect")),
    )
}

fn effect(text: &str) -> Result<Option<Effect>, StateError> {
    if text.is_empty() {
        return Ok(None);
    }
    let effect = serde_json::from_str(text);
    effect
        .map(Some)
        .map_err(|_error| StateError::Corrupt("effect"))
}

/// A shape in its cell; empty for none, since 64 bits do not fit a signed number.
pub(crate) fn shape_text(shape: u64) -> String {
    if shape == 0 {
        String::new()
    } else {
        format!("{shape:016x}")
    }
}

pub(crate) fn read(db: &mut Db, id: ApprovalId) -> Result<Option<ApprovalRow>, StateError> {
    let sql = format!("select {COLUMNS} from approvals where id = ?1");
    let rows = db.query("read an approval", &sql, &[id.to_string().into()])?;
    rows.first().map(|row| from_row(db, row)).transpose()
}

/// The rows of a query over [`COLUMNS`], with their votes.
pub(crate) fn read_all(
    db: &mut Db,
    sql: &str,
    values: &[Value],
) -> Result<Vec<ApprovalRow>, StateError> {
    let rows = db.query("read approvals", sql, values)?;
    rows.iter().map(|row| from_row(db, row)).collect()
}

pub(crate) fn votes(db: &mut Db, id: ApprovalId) -> Result<Vec<Vote>, StateError> {
    let sql = "select group_name, tenant, oid, name, justification, at_us, scope, for_s \
        from ballots where approval = ?1 order by at_us, group_name, oid";
    let rows = db.query("read votes", sql, &[id.to_string().into()])?;
    rows.iter()
        .map(|row| {
            Ok(Vote {
                group: row.text(0)?,
                tenant: row.text(1)?,
                oid: row.text(2)?,
                name: row.text(3)?,
                justification: row.text(4)?,
                at_us: row.integer(5)?,
                grant: ask(&row.text(6)?, row.integer(7)?)?,
            })
        })
        .collect()
}

fn ask(scope: &str, for_s: i64) -> Result<Option<GrantAsk>, StateError> {
    if scope.is_empty() {
        return Ok(None);
    }
    Ok(Some(GrantAsk {
        scope: GrantScope::parse(scope).ok_or(StateError::Corrupt("scope"))?,
        for_s: u32::try_from(for_s).map_err(|_error| StateError::Corrupt("for_s"))?,
    }))
}

fn number(row: &Cells, at: usize) -> Result<u32, StateError> {
    u32::try_from(row.integer(at)?).map_err(|_error| StateError::Corrupt("number"))
}

fn from_row(db: &mut Db, row: &Cells) -> Result<ApprovalRow, StateError> {
    let id = ApprovalId::parse(&row.text(0)?).ok_or(StateError::Corrupt("id"))?;
    let new = NewApproval {
        created_us: row.integer(1)?,
        expires_us: row.integer(2)?,
        session: SessionId::parse(&row.text(3)?).ok_or(StateError::Corrupt("session"))?,
        seq: number(row, 4)?,
        tenant: row.text(5)?,
        principal: row.text(6)?,
        application: row.text(7)?,
        on_behalf_of: row.text(8)?,
        workload: row.text(9)?,
        target: row.text(10)?,
        database: row.text(11)?,
        statement: row.text(12)?,
        parameters: row.text(13)?,
        accesses: row.list(14)?,
        process: row.text(15)?,
        rules: row.list(16)?,
        groups: row.list(17)?,
        reason: row.text(18)?,
        approvals: number(row, 19)?,
        escalate_us: row.integer(20)?,
        escalate_groups: row.list(21)?,
        at_timeout: TimeoutAction::parse(&row.text(22)?).ok_or(StateError::Corrupt("time-out"))?,
        shape: match row.text(23)?.as_str() {
            "" => 0,
            text => u64::from_str_radix(text, 16).map_err(|_error| StateError::Corrupt("shape"))?,
        },
        exact: row.integer(24)? != 0,
        effect: effect(&row.text(30)?)?,
    };
    Ok(ApprovalRow {
        id,
        state: ApprovalState::parse(&row.text(26)?).ok_or(StateError::Corrupt("state"))?,
        new,
        decided_us: row.maybe_integer(27)?,
        approver: row.text(28)?,
        justification: row.text(29)?,
        votes: votes(db, id)?,
    })
}
