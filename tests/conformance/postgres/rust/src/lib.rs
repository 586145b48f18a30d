//! What both drivers are asked.

use std::fmt::Debug;

/// Says a step and what came of it.
pub fn said(name: &str, value: impl Debug) {
    println!("{name}: {value:?}");
}

/// One of the variables that every client of the server reads.
pub fn place(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

pub const QUERIES: [&str; 12] = [
    "select 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12345.678::numeric",
    "select 'a'::text, 'b'::varchar, 'c'::char(3), 'd'::name, null::text, 'ünï'",
    "select '2020-02-29'::date, '2020-02-29 12:34:56.789'::timestamp, '1 day 02:03'::interval",
    "select '\\xdeadbeef'::bytea, ''::bytea, '{\"a\": [1, 2]}'::json, '{\"b\": null}'::jsonb",
    "select '{1,2,3}'::int[], '{a,NULL,\"b c\"}'::text[], '[1,5)'::int4range",
    "select * from person order by id",
    "select * from busy order by id",
    "select * from mixed order by id",
    "select n from generate_series(1, 500) n",
    "select repeat('x', 100000)",
    "select 1 where false",
    "select * from measure order by day",
];

pub const ERRORS: [&str; 9] = [
    "select 1/0",
    "selec 1",
    "select * from nosuch",
    "select nosuch from person",
    "insert into person (id, name) values (1, 'x')",
    "insert into person (id) values (900)",
    "insert into task (person_id) values (999)",
    "insert into mixed (d) values (-1)",
    "select 'abc'::int",
];
