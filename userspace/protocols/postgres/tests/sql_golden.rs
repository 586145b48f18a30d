//! What the understanding of SQL says of many statements, as text that can be blessed
//! (`WEIR_BLESS=1`), and bombs that must be refused in time.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a rendering names what it shows"
)]

use std::fmt::Write as _;
use std::sync::Arc;

use weir_model::request::AttrValue;
use weir_postgres::catalog::{Catalog, CatalogRows};
use weir_postgres::understand::{
    NameScope, OutputColumn, SqlLimits, SqlRefusal, Statement, StatementKind, understand,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql_golden.expect");

/// Tables as `schema.name kind: column…`.
const TABLES: &[&str] = &[
    "public.customers r: id name email ssn card",
    "public.orders r: id customer_id amount note",
    "public.logs p: at text",
    "public.logs_1 r: at text",
    "public.parent r: a b",
    "public.child r: a b c",
    "public.people v: id full_name number mail",
    "public.audited r: id value",
    "public.counter S: last_value",
    "other.customers r: id secret",
    "pg_catalog.pg_stats v: tablename most_common_vals",
    "pg_catalog.pg_class r: oid relname relnamespace",
    "pg_temp_3.scratch r: x",
    "pg_catalog.pg_settings r: name setting",
];

/// Functions as `schema.name flags`: `v` volatile, `d` security definer, `s` scalar, `r` returns a set.
const FUNCTIONS: &[&str] = &[
    "pg_catalog.upper s",
    "pg_catalog.lower s",
    "pg_catalog.reverse s",
    "pg_catalog.count s",
    "pg_catalog.max s",
    "pg_catalog.now s",
    "pg_catalog.random vs",
    "pg_catalog.encode s",
    "pg_catalog.row_to_json s",
    "pg_catalog.json_build_object s",
    "pg_catalog.array_agg s",
    "pg_catalog.string_agg s",
    "pg_catalog.pg_read_file vs",
    "pg_catalog.pg_ls_dir v",
    "pg_catalog.lo_export vs",
    "pg_catalog.lo_import vs",
    "pg_catalog.query_to_xml vs",
    "pg_catalog.table_to_xml s",
    "pg_catalog.pg_terminate_backend vs",
    "pg_catalog.set_config vs",
    "pg_catalog.current_setting s",
    "pg_catalog.pg_sleep vs",
    "pg_catalog.pg_notify vs",
    "pg_catalog.generate_series sr",
    "pg_catalog.unnest r",
    "pg_catalog.nextval vs",
    "pg_catalog.ts_stat v",
    "pg_catalog.lag s",
    "pg_catalog.left s",
    "pg_catalog.pg_reload_conf vs",
    "public.dblink v",
    "public.risky vd",
    "public.lower s",
    "public.touch v",
    "other.upper s",
];

fn cells(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| Some((*value).to_owned()))
        .collect()
}

fn catalog() -> Catalog {
    let (mut relations, mut columns) = (Vec::new(), Vec::new());
    for (at, table) in TABLES.iter().enumerate() {
        let (head, names) = table.split_once(": ").expect("a colon");
        let (name, kind) = head.split_once(' ').expect("a kind");
        let (schema, name) = name.split_once('.').expect("a schema");
        let oid = (100 + at).to_string();
        let triggers = if name == "audited" { "t" } else { "f" };
        relations.push(cells(&[&oid, schema, name, kind, triggers, "f"]));
        for (number, column) in names.split(' ').enumerate() {
            columns.push(cells(&[&oid, &(number + 1).to_string(), column, "25"]));
        }
    }
    let functions = (1000..)
        .zip(FUNCTIONS)
        .map(|(oid, function): (u32, &&str)| {
            let (name, flags) = function.split_once(' ').expect("flags");
            let (schema, name) = name.split_once('.').expect("a schema");
            let flag = |letter| if flags.contains(letter) { "t" } else { "f" };
            let oid = oid.to_string();
            cells(&[
                schema,
                name,
                flag('v'),
                flag('d'),
                flag('s'),
                flag('r'),
                &oid,
            ])
        })
        .collect();
    let view = "SELECT customers.id, customers.name AS full_name, customers.ssn AS number, \
                upper(customers.email) AS mail FROM public.customers WHERE customers.card <> ''";
    let rows = CatalogRows(vec![
        (
            "schemas",
            vec![
                cells(&["public"]),
                cells(&["other"]),
                cells(&["pg_catalog"]),
            ],
        ),
        ("relations", relations),
        ("columns", columns),
        ("views", vec![cells(&["106", view])]),
        (
            "inheritance",
            vec![cells(&["103", "102", "t"]), cells(&["105", "104", "f"])],
        ),
        ("functions", functions),
        (
            "types",
            vec![cells(&["25", "pg_catalog", "text", "b", "0", "0"])],
        ),
        ("operators", vec![cells(&["@@@", "public", "touch"])]),
        ("casts", Vec::new()),
        ("sql_functions", Vec::new()),
        ("overloads", Vec::new()),
        ("generated", Vec::new()),
    ]);
    Catalog::from_rows(&rows).expect("a catalog")
}

fn ask(catalog: &Catalog, sql: &str, limits: &SqlLimits) -> Result<Vec<Statement>, SqlRefusal> {
    let (target, database) = (Arc::from("t"), Arc::from("db"));
    let search_path = [Arc::from("pg_temp_3"), Arc::from("public")];
    let names = NameScope {
        lenient: false,
        path_settled: false,
        catalog,
        target: &target,
        database: &database,
        search_path: &search_path,
        role: "app",
    };
    understand(sql, &names, limits)
}

fn short(id: &str) -> &str {
    id.strip_prefix("t/db/")
        .or_else(|| id.strip_prefix("t/db"))
        .unwrap_or(id)
}

fn column(column: &OutputColumn) -> String {
    let mut text = format!("{}=", column.name);
    if let Some(plain) = &column.plain {
        write!(text, "{{{}}}", short(&plain.object.id())).expect("a string");
    }
    for source in &column.sources {
        let mark = if column.exact.contains(source) {
            "="
        } else {
            "~"
        };
        write!(text, " {mark}{}", short(&source.id())).expect("a string");
    }
    text
}

fn render(sql: &str, result: &Result<Vec<Statement>, SqlRefusal>) -> String {
    let mut text = format!("> {sql}\n");
    let statements = match result {
        Err(refusal) => {
            writeln!(text, "  refused: {refusal}\n").expect("a string");
            return text;
        }
        Ok(statements) => statements,
    };
    for statement in statements {
        render_one(&mut text, sql, statement);
    }
    text.push('\n');
    text
}

fn render_one(text: &mut String, sql: &str, statement: &Statement) {
    let kind = match &statement.kind {
        StatementKind::Prepare { name, .. } => format!("Prepare {name}"),
        StatementKind::Declare { name, hold, .. } => format!("Declare {name} hold={hold}"),
        other => format!("{other:?}"),
    };
    writeln!(text, "  {kind}").expect("a string");
    let mut last = "";
    for access in &statement.intent.accesses {
        if access.action != last {
            let separator = if last.is_empty() { "" } else { "\n" };
            write!(text, "{separator}  {}:", access.action).expect("a string");
            last = access.action;
        }
        write!(text, " {}", short(&access.object.id())).expect("a string");
    }
    text.push('\n');
    for one in statement.columns.iter().flatten() {
        writeln!(text, "  -> {}", column(one)).expect("a string");
    }
    if statement.returns_rows && statement.columns.is_none() {
        text.push_str("  -> ?\n");
    }
    for (name, value) in &statement.intent.context {
        match value {
            AttrValue::Bool(true) => write!(text, "  +{name}"),
            AttrValue::Long(number) if *number != 0 => write!(text, "  {name}={number}"),
            AttrValue::String(word) => write!(text, "  [{word}]"),
            _ => Ok(()),
        }
        .expect("a string");
    }
    text.push('\n');
    if !statement.diverted.is_empty() {
        let ids: Vec<String> = statement
            .diverted
            .iter()
            .map(|one| short(&one.id()).to_owned())
            .collect();
        writeln!(text, "  diverted: {}", ids.join(" ")).expect("a string");
    }
    let changes = statement.changes;
    for (name, set) in [
        ("search_path", changes.search_path),
        ("catalog", changes.catalog),
        ("role", changes.role),
        ("PINS", changes.session_pins),
        ("WRITABLE", changes.writable),
        ("all settings", changes.resets),
    ] {
        if set {
            writeln!(text, "  changes {name}").expect("a string");
        }
    }
    if statement.redacted != sql.get(statement.text.clone()).expect("a range").into() {
        writeln!(text, "  recorded: {}", statement.redacted).expect("a string");
    }
    for (range, object) in &statement.compared_literals {
        let literal = statement.redacted.get(range.clone()).expect("a range");
        writeln!(text, "  literal {literal} ~ {}", short(&object.id())).expect("a string");
    }
    for (number, object) in &statement.compared_parameters {
        writeln!(text, "  parameter ${number} ~ {}", short(&object.id())).expect("a string");
    }
}

#[test]
fn statements_are_understood_as_before() {
    let catalog = catalog();
    let limits = SqlLimits::default();
    let input = include_str!("sql_golden.sql");
    let mut actual = String::new();
    let mut count = 0;
    for sql in input
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("-- "))
    {
        count += 1;
        actual.push_str(&render(sql, &ask(&catalog, sql, &limits)));
    }
    assert!(count >= 150, "{count} statements");
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    if bless {
        std::fs::write(GOLDEN, &actual).expect("written");
    }
    let expected = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    for (ours, theirs) in actual.split("\n\n").zip(expected.split("\n\n")) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(actual.len(), expected.len());
}

/// Runs on a stack no larger than a worker thread of tokio has.
fn on_small_stack(check: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(check)
        .expect("a thread");
    thread.join().expect("no panic");
}

#[test]
fn bombs_are_refused_without_recursion() {
    on_small_stack(|| {
        let catalog = catalog();
        let limits = SqlLimits::default();
        let mib = 1usize << 20;
        let nested = |open: &str, middle: &str, close: &str| {
            let times = mib / (open.len() + close.len());
            format!(
                "SELECT {}{middle}{}",
                open.repeat(times),
                close.repeat(times)
            )
        };
        let bombs = [
            format!("SELECT 1{}", "+1".repeat(mib / 2)),
            format!("SELECT 'a'{}", "||'a'".repeat(mib / 5)),
            format!("SELECT 1{}", " UNION SELECT 1".repeat(mib / 15)),
            format!(
                "SELECT 1 FROM customers{}",
                " JOIN orders ON true".repeat(mib / 20)
            ),
            format!(
                "SELECT * FROM customers{}",
                " NATURAL JOIN customers".repeat(2000)
            ),
            format!("SELECT true{}", " AND true".repeat(mib / 9)),
            format!("SELECT {}true", "NOT ".repeat(mib / 4)),
            format!("SELECT {}1", "- ".repeat(mib / 2)),
            nested("(", "1", ")"),
            nested("(SELECT ", "1", ")"),
            nested("upper(", "'x'", ")"),
            nested("CASE WHEN true THEN ", "1", " END"),
            nested("ARRAY[", "1", "]"),
            format!(
                "SELECT * FROM {}customers{}",
                "(SELECT * FROM ".repeat(20_000),
                ") x".repeat(20_000)
            ),
            format!(
                "{}SELECT 1{}",
                "WITH a AS (".repeat(20_000),
                ") SELECT 1".repeat(20_000)
            ),
            format!("SELECT 1{}", "::int".repeat(mib / 5)),
            format!("SELECT x{}", "[1]".repeat(mib / 3)),
            format!("{}SELECT 1", "EXPLAIN ".repeat(mib / 8)),
            format!("SELECT {}", "a.".repeat(mib / 2)),
        ];
        for bomb in bombs {
            let head: String = bomb.chars().take(40).collect();
            let result = ask(&catalog, &bomb, &limits);
            if let Ok(statements) = &result {
                assert_eq!(statements.len(), 1, "{head}");
            }
            let refused = matches!(
                result,
                Ok(_)
                    | Err(SqlRefusal::TooDeep
                        | SqlRefusal::TooComplex
                        | SqlRefusal::Syntax(_)
                        | SqlRefusal::TooManyAccesses
                        | SqlRefusal::UnknownColumn(_))
            );
            assert!(refused, "{head}: {result:?}");
        }
    });
}

#[test]
fn long_operator_chains_are_too_deep_and_wide_lists_are_not() {
    let catalog = catalog();
    let limits = SqlLimits::default();
    let chain = format!("SELECT 1{}", "+1".repeat(100_000));
    assert_eq!(
        ask(&catalog, &chain, &limits).unwrap_err(),
        SqlRefusal::TooDeep
    );
    let list = format!(
        "SELECT id FROM customers WHERE id IN (0{})",
        ",1".repeat(50_000)
    );
    assert_eq!(ask(&catalog, &list, &limits).expect("wide").len(), 1);
    let values = format!(
        "INSERT INTO orders VALUES (1,2,3,'x'){}",
        ",(1,2,3,'x')".repeat(20_000)
    );
    assert_eq!(ask(&catalog, &values, &limits).expect("wide").len(), 1);
}

#[test]
fn nine_mebibytes_of_comment_hide_nothing() {
    let catalog = catalog();
    let sql = format!("/* {} */ DROP TABLE customers", "x".repeat(9 << 20));
    let statements = ask(&catalog, &sql, &SqlLimits::default()).expect("understood");
    let drop = &statements[0].intent.accesses[0];
    assert_eq!(
        (drop.action, drop.object.id().as_str()),
        ("drop", "t/db/public/customers")
    );
    let small = SqlLimits {
        text_bytes_max: 8 << 20,
        ..SqlLimits::default()
    };
    assert_eq!(
        ask(&catalog, &sql, &small).unwrap_err(),
        SqlRefusal::TooLong
    );
}

#[test]
fn long_identifiers_do_not_fill_the_parsers_pipe() {
    let catalog = catalog();
    let name = "i".repeat(100);
    let sql = format!(
        "SELECT 1 AS {name}{}",
        format!(", 1 AS {name}").repeat(5_000)
    );
    let statements = ask(&catalog, &sql, &SqlLimits::default()).expect("understood");
    let columns = statements[0].columns.as_ref().expect("columns");
    assert_eq!(columns[0].name.len(), 63);
}

#[test]
fn shapes_ignore_literals_case_and_space_and_depend_on_the_key() {
    let catalog = catalog();
    let limits = SqlLimits::default();
    let shape = |sql: &str, limits: &SqlLimits| ask(&catalog, sql, limits).expect(sql)[0].shape;
    let one = shape("SELECT id FROM customers WHERE ssn = '1'", &limits);
    assert_eq!(
        one,
        shape("select  ID from customers where ssn = 'a''b' -- x", &limits)
    );
    assert_ne!(
        one,
        shape("SELECT id FROM customers WHERE card = '1'", &limits)
    );
    let keyed = SqlLimits {
        shape_key: [1; 32],
        ..limits
    };
    assert_ne!(
        one,
        shape("SELECT id FROM customers WHERE ssn = '1'", &keyed)
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1500))]

    #[test]
    fn any_text_is_understood_or_refused(text in "[ -~\n]{0,80}") {
        ask(&catalog(), &text, &SqlLimits::default()).ok();
    }

    #[test]
    fn any_mix_of_fragments_is_understood_or_refused(
        parts in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..14)
    ) {
        let text = parts.join(" ");
        if let Ok(statements) = ask(&catalog(), &text, &SqlLimits::default()) {
            for statement in statements {
                assert!(!statement.intent.accesses.is_empty());
                assert!(text.get(statement.text.clone()).is_some());
                for (range, _) in &statement.compared_literals {
                    assert!(statement.redacted.get(range.clone()).is_some());
                }
            }
        }
    }

    #[test]
    fn statements_of_the_golden_file_cut_anywhere_are_no_panic(line in 0usize..150, cut in 0usize..200, with in "[ -~]{0,5}") {
        let text = include_str!("sql_golden.sql").lines().nth(line).unwrap_or_default();
        let cut = cut.min(text.len());
        if let (Some(head), Some(tail)) = (text.get(..cut), text.get(cut..)) {
            ask(&catalog(), &format!("{head}{with}{tail}"), &SqlLimits::default()).ok();
        }
    }
}

const FRAGMENTS: &[&str] = &[
    "SELECT",
    "*",
    "FROM",
    "customers",
    "c",
    ",",
    "ssn",
    "WHERE",
    "=",
    "'x'",
    "1",
    "(",
    ")",
    "AND",
    "JOIN",
    "USING",
    "(id)",
    "ON",
    "true",
    "UNION",
    "ALL",
    "WITH",
    "AS",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "RETURNING",
    "ORDER BY",
    "GROUP BY",
    "LIMIT",
    ";",
    "$1",
    "::text",
    "count(*)",
    "upper(ssn)",
    "people",
    "orders",
    "LATERAL",
    "EXISTS",
    "IN",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "NULL",
    "MERGE INTO",
    "COPY",
    "TO STDOUT",
    "DROP TABLE",
    "CREATE TABLE",
    "int",
    "GRANT",
    "EXPLAIN",
    "PREPARE p AS",
    "DECLARE k CURSOR FOR",
    "c.*",
    "c.ssn",
    "-- z\n",
    "/*",
    "*/",
];
