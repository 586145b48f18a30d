"""The differential corpus: files of `corpus/`, and statements made from the server's own catalog.

A unit is what stands between two blank lines of a file: one text, sent as a whole. Lines that begin with
`--!` are about the unit and not part of it:

    --! name: NAME      by which differences.txt knows it
    --! values: A|B     parameters; `~` is NULL. Such a unit is not sent in the simple protocol
    --! copy: DATA      what is given to COPY … FROM STDIN, with backslash escapes
    --! copyhex: DATA   the same, in hexadecimal
    --! differs: NAME in MODE …   the same in these modes only
    --! simple:         only sent in the simple protocol
    --! alone:          never sent in one batch with others
    --! oids:           its values hold numbers of new objects
"""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus"


class Unit:
    def __init__(self, where, sql, name=None, values=None, copy=None, about={}):
        self.where, self.sql, self.name, self.values, self.copy = where, sql, name, values, copy
        name, _, modes = about.get("differs", "").partition(" in ")
        self.differs = dict.fromkeys(modes.split(), name)
        self.simple, self.oids, self.alone = "simple" in about, "oids" in about, "alone" in about

    @property
    def parameters(self):
        return [None if value == "~" else value for value in self.values or []]


def read(path):
    units = []
    for number, block in enumerate(re.split(r"\n\n", path.read_text()[:-1])):
        about, lines = {}, []
        for line in block.split("\n"):
            if line.startswith("--! "):
                key, _, value = line[4:].partition(":")
                about[key] = value.lstrip()
            else:
                lines.append(line)
        copy = about.get("copy")
        if copy is not None:
            copy = copy.encode().decode("unicode_escape").encode("latin1")
        if "copyhex" in about:
            copy = bytes.fromhex(about["copyhex"])
        values = about["values"].split("|") if "values" in about else None
        units.append(Unit(f"{path.stem}/{number}", "\n".join(lines), about.get("name"), values, copy, about))
    return units


# Samples of built-in types, by which operators and functions are called.
SAMPLES = {
    "bool": ["true", "false"],
    "int2": ["7", "-32768"],
    "int4": ["42", "-7"],
    "int8": ["9000000000", "-1"],
    "float4": ["1.5", "NaN"],
    "float8": ["2.25", "-Infinity"],
    "numeric": ["12345.6789", "-0.001"],
    "money": ["$12.34"],
    "text": ["Weir text", ""],
    "varchar": ["varying"],
    "bpchar": ["padded  "],
    "name": ["a_name"],
    "char": ["c"],
    "bytea": ["\\x00ff10", "\\x"],
    "date": ["2020-02-29", "infinity"],
    "time": ["12:34:56.789"],
    "timetz": ["12:34:56+02"],
    "timestamp": ["2020-02-29 12:34:56.789", "-infinity"],
    "timestamptz": ["2020-02-29 12:34:56+02"],
    "interval": ["1 year 2 mons 3 days 04:05:06", "-1 hour"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ['{"a": [1, 2, {"b": null}]}'],
    "jsonb": ['{"b": "x", "a": [1, 2]}', "[1, \"two\", null]"],
    "jsonpath": ["$.a[*]"],
    "xml": ["<a>1</a>"],
    "inet": ["192.168.1.5/24", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit": ["1"],
    "varbit": ["10110"],
    "point": ["(1,2)"],
    "line": ["{1,-1,0}"],
    "lseg": ["[(0,0),(1,1)]"],
    "box": ["(2,2),(0,0)"],
    "path": ["((0,0),(1,1),(2,0))", "[(0,0),(1,1)]"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "circle": ["<(1,1),2>"],
    "tsvector": ["a:1 fat:2 cat:3"],
    "tsquery": ["fat & (rat | cat)"],
    "int4range": ["[1,10)", "empty"],
    "int8range": ["[1,10)"],
    "numrange": ["(1.5,2.5]"],
    "daterange": ["[2020-01-01,2020-02-01)"],
    "tsrange": ["[2020-01-01 00:00,2020-01-02 00:00)"],
    "tstzrange": ["[2020-01-01 00:00+00,)"],
    "int4multirange": ["{[1,3),[5,7)}"],
    "nummultirange": ["{(1.5,2.5]}"],
    "_int4": ["{1,2,NULL,3}", "{{1,2},{3,4}}"],
    "_text": ['{a,"b c",NULL}'],
    "_numeric": ["{1.5,2}"],
    "_bool": ["{t,f}"],
    "_date": ["{2020-01-01}"],
    "_jsonb": ['{"{\\"a\\": 1}"}'],
    "_timestamptz": ['{"2020-01-01 00:00+00"}'],
    "oid": ["26"],
    "regclass": ["pg_class"],
    "regtype": ["int4"],
    "regproc": ["now"],
    "tid": ["(0,1)"],
    "xid": ["5"],
    "pg_lsn": ["16/B374D848"],
    "oidvector": ["1 2 3"],
    "int2vector": ["1 2"],
}

# What a call of gives another answer each time, or takes long, or changes the server.
VOLATILE = re.compile(r"^(pg_|has_|row_security|txid|current_|session_|inet_|version|getdatabase|binary_upgrade|ts_stat|"
                      r"query_to|table_to|schema_to|database_to|cursor_to|to_reg|hash|.*recv$|.*send$|.*_in$|.*sel$|.*joinsel$|"
                      r"bt.*support|.*_support|gist_|gin|spg_|brin|amvalidate|lo_|nextval|setval|currval|lastval|obj_desc|col_desc|"
                      r"shobj|format_type|reg.*(in|out)|uuid_hash|random|.*_handler|bernoulli|system$|trigger|.*_ops|.*cmp$)")


def literal(value, kind):
    return "'%s'::%s" % (value.replace("'", "''"), kind)


def quoted(kind):
    return '"char"' if kind == "char" else kind


def types():
    for kind, values in SAMPLES.items():
        kind = quoted(kind)
        for value in values:
            yield f"select {literal(value, kind)}"
        first = literal(values[0], kind)
        yield f"select {first} as v, null::{kind} as n, pg_typeof({first})"
        yield f"select array[{first}, null], row({first}, 1)"
        yield f"select ({first})::text, quote_nullable({first}), format('%s|%L', {first}, {first})"
        yield f"select to_json({first}), to_jsonb({first}), json_build_object('k', {first})"
        yield f"select v from (values ({first}), (null)) t(v)"
        yield f"select '@@not a value@@'::{kind}"
        yield f"create temp table t_of (v {kind} default {first}); insert into t_of default values; insert into t_of values (null) returning v; select * from t_of; drop table t_of"


OPERATORS = """
select o.oprname, l.typname, r.typname from pg_operator o
left join pg_type l on l.oid = o.oprleft join pg_type r on r.oid = o.oprright
where o.oprnamespace = 'pg_catalog'::regnamespace order by 1, 2, 3
"""
FUNCTIONS = """
select p.proname, coalesce(string_agg(t.typname, ',' order by a.n), '') from pg_proc p
left join lateral unnest(p.proargtypes) with ordinality a(kind, n) on true left join pg_type t on t.oid = a.kind
where p.pronamespace = 'pg_catalog'::regnamespace and p.provolatile = 'i' and p.prokind = 'f'
group by p.oid, p.proname order by p.proname, 2
"""


def operators(rows):
    for name, left, right in rows:
        if right not in SAMPLES or (left is not None and left not in SAMPLES):
            continue
        before = "" if left is None else literal(SAMPLES[left][0], quoted(left)) + " "
        yield f"select {before}{name} {literal(SAMPLES[right][-1], quoted(right))}"


def functions(rows):
    for name, arguments in rows:
        kinds = arguments.split(",") if arguments else []
        if VOLATILE.match(name) or not kinds or any(kind not in SAMPLES for kind in kinds) or not name.isidentifier():
            continue
        given = ", ".join(literal(SAMPLES[kind][0], quoted(kind)) for kind in kinds)
        yield f'select "{name}"({given})'


def made(ask):
    """Units of the catalog; `ask` runs a query on the server and gives its rows."""
    sources = {"types": types(), "operators": operators(ask(OPERATORS)), "functions": functions(ask(FUNCTIONS))}
    for name, statements in sources.items():
        for number, sql in enumerate(statements):
            yield Unit(f"{name}/{number}", sql)


def files():
    return sorted(FOLDER.glob("*.sql"))
