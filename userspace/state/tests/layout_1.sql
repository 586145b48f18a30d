-- A store as the first version made it.
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
insert into approvals values (
    '01900000-0000-7000-8000-000000000001', 1, 2, '01900000-0000-7000-8000-000000000002', 3, 't',
    'agent', 'app', '', 'operator', 'demo', 'shop', 'delete from orders', '', '[]', 'psql (pid 1)',
    '["unbounded"]', '["dba","security"]', 'every row', 'pending', null, '', ''
);
insert into votes values (
    '01900000-0000-7000-8000-000000000001', 'dba', 't', 'rev', 'rev', 'ticket 4711', 2
);
pragma user_version = 1;
