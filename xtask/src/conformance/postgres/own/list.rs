//! Whose own tests are run, and how.

/// How tests reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// By the variables of libpq, over TLS both ways.
    Variables,
    /// They know one address only, which is carried to the server.
    Address,
}

/// By what tests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// pytest, in the package's folder, with these arguments.
    Pytest(&'static [&'static str]),
    /// The programs that cargo makes of a crate's tests.
    Libtest,
}

/// The tests of one package, with one driver.
pub(super) struct Tests {
    /// In the table, in `differences.txt` and in `left-out.txt`.
    pub(super) name: &'static str,
    /// Whose tests they are: a folder of the sources, and `suites/PACKAGE.sql`.
    pub(super) package: &'static str,
    pub(super) database: &'static str,
    pub(super) reach: Reach,
    pub(super) runner: Runner,
}

/// The superuser's own, which some tests insist on: it is made empty instead of made anew.
pub(super) const OWNERS: &str = "postgres";

pub(super) const TESTS: [Tests; 8] = [
    pytest("asyncpg", "asyncpg", "asyncpg_test", &["tests"]),
    pytest("psycopg2", "psycopg2", "psycopg2_test", &["tests"]),
    Tests {
        name: "pg8000",
        package: "pg8000",
        database: OWNERS,
        reach: Reach::Address,
        runner: Runner::Pytest(&["test"]),
    },
    Tests {
        name: "tokio-postgres",
        package: "tokio-postgres",
        database: OWNERS,
        reach: Reach::Address,
        runner: Runner::Libtest,
    },
    Tests {
        name: "sqlx",
        package: "sqlx",
        database: "sqlx_test",
        reach: Reach::Address,
        runner: Runner::Libtest,
    },
    sqlalchemy(
        "sqlalchemy-psycopg2",
        &dialect("--dburi=postgresql+psycopg2:///sqlalchemy_test"),
    ),
    sqlalchemy(
        "sqlalchemy-psycopg",
        &dialect("--dburi=postgresql+psycopg:///sqlalchemy_test"),
    ),
    sqlalchemy(
        "sqlalchemy-asyncpg",
        &dialect("--dburi=postgresql+asyncpg:///sqlalchemy_test"),
    ),
];

/// Those of SQLAlchemy's tests that ask the server and make few tables: after each Weir reads the catalog.
const fn dialect(url: &'static str) -> [&'static str; 7] {
    [
        url,
        "--backend-only",
        "test/dialect/postgresql/test_async_pg_py3k.py",
        "test/dialect/postgresql/test_dialect.py",
        "test/dialect/postgresql/test_on_conflict.py",
        "test/dialect/postgresql/test_query.py",
        "test/sql/test_types.py",
    ]
}

const fn sqlalchemy(name: &'static str, arguments: &'static [&'static str]) -> Tests {
    pytest(name, "sqlalchemy", "sqlalchemy_test", arguments)
}

const fn pytest(
    name: &'static str,
    package: &'static str,
    database: &'static str,
    arguments: &'static [&'static str],
) -> Tests {
    Tests {
        name,
        package,
        database,
        reach: Reach::Variables,
        runner: Runner::Pytest(arguments),
    }
}
