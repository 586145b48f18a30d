-- The tables that the examples of these policies speak of: those of the lab's database.
create table customers (
    id integer primary key,
    name text not null,
    email text not null unique,
    ssn text not null,
    card text not null,
    city text not null,
    created_at timestamptz not null
);

create table orders (
    id integer primary key,
    customer_id integer not null references customers (id),
    item text not null,
    amount numeric(10, 2) not null,
    status text not null default 'open',
    note text,
    placed_at timestamptz not null
);

create view customer_orders as
select c.id as customer_id, c.name, c.email as contact, o.id as order_id, o.item, o.amount, o.status
from customers c
         join orders o on o.customer_id = c.id;

create table ledger (
    id bigint primary key,
    account integer not null,
    delta integer not null,
    at timestamptz not null default now()
);

create schema vault;

create table vault.api_keys (
    id integer primary key,
    service text not null,
    secret text not null
);

create function public.refresh_totals() returns void language sql as 'select 1';
