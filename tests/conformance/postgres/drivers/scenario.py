"""What every driver does in its own words: a list of steps, each a name and what came of it, one a line."""

import datetime
import decimal
import sys


def show(value):
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, memoryview):
        return repr(bytes(value))
    if isinstance(value, (datetime.datetime, datetime.date, datetime.timedelta, decimal.Decimal)):
        return f"{type(value).__name__}({value})"
    return repr(value)


def said(name, value):
    print(f"{name}: {show(value)}")
    sys.stdout.flush()


QUERIES = [
    ("numbers", "select 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12345.678::numeric"),
    ("texts", "select 'a'::text, 'b'::varchar, 'c'::char(3), 'd'::name, null::text, 'ünï'"),
    ("times", "select '2020-02-29'::date, '2020-02-29 12:34:56.789'::timestamp, '2020-02-29 12:34:56+02'::timestamptz, '1 day 02:03'::interval"),
    ("bytes", "select '\\xdeadbeef'::bytea, ''::bytea"),
    ("json", "select '{\"a\": [1, 2]}'::json, '{\"b\": null}'::jsonb"),
    ("arrays", "select '{1,2,3}'::int[], '{a,NULL,\"b c\"}'::text[], '{}'::int[]"),
    ("ranges", "select '[1,5)'::int4range::text, 'empty'::int4range::text"),
    ("table", "select * from person order by id"),
    ("view", "select * from busy order by id"),
    ("many", "select n from generate_series(1, 2000) n"),
    ("wide", "select repeat('x', 100000)"),
    ("none", "select 1 where false"),
    ("partition", "select * from measure order by day"),
]
ERRORS = [
    ("division", "select 1/0"),
    ("syntax", "selec 1"),
    ("no table", "select * from nosuch"),
    ("no column", "select nosuch from person"),
    ("unique", "insert into person (id, name) values (1, 'x')"),
    ("not null", "insert into person (id) values (900)"),
    ("foreign key", "insert into task (person_id) values (999)"),
    ("check", "insert into mixed (d) values (-1)"),
    ("cast", "select 'abc'::int"),
]
