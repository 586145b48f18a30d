//! The tables, and how an older layout becomes this one.

use crate::db::{Db, Value};
use crate::error::StateError;
use crate::revocation;

/// Version of the tables.
const LAYOUT: i64 = 4;

const APPROVALS: &str = "
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

/// Several people of one group, escalation, grants, and which process waits for what.
const GRANTS: &str = "
alter table approvals add column approvals integer not null default 1;
alter table approvals add column escalate_us integer not null default 0;
alter table approvals add column escalate_groups text not null default '[]';
alter table approvals add column at_timeout text not null default 'deny';
alter table approvals add column shape text not null default '';
alter table approvals add column exact integer not null default 0;
alter table approvals add column owner text not null default '';
create table ballots (
    approval text not null references approvals (id), group_name text not null,
    tenant text not null, oid text not null, name text not null, justification text not null,
    at_us integer not null, scope text not null default '', for_s integer not null default 0,
    primary key (approval, group_name, oid)
) strict;
insert into ballots (approval, group_name, tenant, oid, name, justification, at_us)
    select approval, group_name, tenant, oid, name, justification, at_us from votes;
drop table votes;
create table grants (
    id text primary key references approvals (id), scope text not null,
    created_us integer not null, expires_us integer not null, uses integer not null default 0,
    used_us integer, revoked_us integer, revoked_by text not null default '',
    revoked_why text not null default ''
) strict;
create index grants_expiry on grants (expires_us);
create table owners (
    instance text primary key, node text not null, seen_us integer not null
) strict;
";

/// What a write did whose effect is approved.
const EFFECTS: &str = "alter table approvals add column effect text not null default '';";

/// Makes what is missing.
pub(crate) fn lay_out(db: &mut Db) -> Result<(), StateError> {
    db.transaction(|db| {
        let have = layout(db)?;
        if have > LAYOUT {
            return Err(StateError::TooNew);
        }
        if have < 1 {
            make(db, APPROVALS)?;
        }
        if have < 2 {
            make(db, revocation::TABLE)?;
        }
        if have < 3 {
            make(db, GRANTS)?;
        }
        if have < LAYOUT {
            make(db, EFFECTS)?;
            set_layout(db)?;
        }
        Ok(())
    })
}

fn make(db: &mut Db, sql: &str) -> Result<(), StateError> {
    match db {
        Db::File(_) => db.batch("make the tables", sql),
        Db::Server(_) => {
            // PostgreSQL is strict anyway, and its `integer` is too small for microseconds.
            let sql = sql.replace(" strict;", ";").replace("integer", "bigint");
            db.batch("make the tables", &sql)
        }
    }
}

fn layout(db: &mut Db) -> Result<i64, StateError> {
    let rows = match db {
        Db::File(_) => db.query("read the layout", "pragma user_version", &[])?,
        Db::Server(_) => {
            let sql = "create table if not exists weir_layout (version bigint not null)";
            db.batch("make the layout", sql)?;
            let sql = "select coalesce(max(version), 0) from weir_layout";
            db.query("read the layout", sql, &[])?
        }
    };
    rows.first().map_or(Ok(0), |row| row.integer(0))
}

fn set_layout(db: &mut Db) -> Result<(), StateError> {
    match db {
        Db::File(_) => {
            let sql = format!("pragma user_version = {LAYOUT}");
            db.batch("write the layout", &sql)
        }
        Db::Server(_) => {
            db.batch("forget the layout", "delete from weir_layout")?;
            let sql = "insert into weir_layout (version) values (?1)";
            db.execute("write the layout", sql, &[Value::from(LAYOUT)])?;
            Ok(())
        }
    }
}
