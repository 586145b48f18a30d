-- The demo database of a lab: the same rows each time. Run as the superuser, with -v owner=ROLE.
-- Names, addresses, SSNs (area 9xx is never issued) and cards (test prefix 4000 00) are invented.
\set ON_ERROR_STOP 1
set log_statement = none;
set role :"owner";

create table customers (
    id         integer primary key,
    name       text not null,
    email      text not null unique,
    ssn        text not null,
    card       text not null,
    city       text not null,
    created_at timestamptz not null
);

create table orders (
    id          integer primary key,
    customer_id integer not null references customers (id),
    item        text not null,
    amount      numeric(10, 2) not null,
    status      text not null default 'open',
    note        text,
    placed_at   timestamptz not null
);

insert into customers
select i,
       (array ['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Donald', 'Frances', 'John', 'Radia', 'Ken'])[1 + i % 10]
           || ' ' ||
       (array ['Meyer', 'Okafor', 'Tanaka', 'Silva', 'Novak', 'Haddad', 'Larsen', 'Rossi'])[1 + i % 8],
       'customer' || i || '@shop.example',
       format('9%s-%s-%s', lpad((i % 100)::text, 2, '0'), lpad((10 + i % 89)::text, 2, '0'), lpad((i * 37 % 10000)::text, 4, '0')),
       '400000' || lpad((i::bigint * 7919 % 10000000000)::text, 10, '0'),
       (array ['Lisbon', 'Osaka', 'Quito', 'Tunis', 'Oslo', 'Pune'])[1 + i % 6],
       timestamptz '2026-01-01 09:00:00+00' + i * interval '7 hours'
from generate_series(1, 200) as i;

insert into orders
select i,
       1 + i * 13 % 200,
       (array ['lamp', 'desk', 'chair', 'shelf', 'clock', 'rug', 'mirror'])[1 + i % 7],
       (500 + i * 271 % 20000) / 100.0,
       (array ['open', 'paid', 'shipped', 'returned'])[1 + i % 4],
       case when i % 5 = 0 then 'gift wrap' end,
       timestamptz '2026-02-01 08:00:00+00' + i * interval '3 hours'
from generate_series(1, 600) as i;

create view customer_orders as
select c.id as customer_id, c.name, c.email as contact, o.id as order_id, o.item, o.amount, o.status
from customers c
         join orders o on o.customer_id = c.id;

-- What load tests write to: one row per statement, so that the server's count can be compared.
create table ledger (
    id      bigint primary key,
    account integer not null,
    delta   integer not null,
    at      timestamptz not null default now()
);

reset role;
analyze;
