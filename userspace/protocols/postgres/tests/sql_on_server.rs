//! Understanding against a real PostgreSQL: the catalog is read with our own queries, and what
//! is said of result columns agrees with the server's description.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use weir_postgres::catalog::{CATALOG_QUERIES, Catalog, CatalogQuery, CatalogRows, LIVE_QUERIES};
use weir_postgres::understand::{NameScope, SqlLimits, SqlRefusal, Statement, understand};

const SCHEMA: &str = include_str!("sql_on_server.schema.sql");
/// Backslash commands of psql.
const COMMANDS: &[&str] = &[
    "\\d",
    "\\d+",
    "\\dt",
    "\\dt+",
    "\\d customers",
    "\\d+ customers",
    "\\d orders",
    "\\d+ measurements",
    "\\d people",
    "\\d+ people",
    "\\df",
    "\\df+",
    "\\l",
    "\\l+",
    "\\dn",
    "\\dn+",
    "\\du",
    "\\du+",
    "\\dv",
    "\\dv+",
    "\\di",
    "\\di+",
    "\\ds",
    "\\dT",
    "\\dT+",
    "\\dp",
    "\\ddp",
    "\\dx",
    "\\do",
    "\\dC",
    "\\dD",
    "\\dd",
    "\\dF",
    "\\des",
    "\\dconfig",
    "\\drds",
    "\\sf total_of",
    "\\sv people",
    "\\db",
    "\\dy",
    "\\dRp",
    "\\dRs",
    "\\dm",
    "\\dP",
    "\\da",
    "\\dc",
    "\\dL",
    "\\dO",
    "\\dX",
    "\\dA",
];

const CORPUS: &str = include_str!("sql_on_server.corpus.sql");

/// A server of its own: a data directory, a unix socket, no network.
struct Server {
    process: Child,
    directory: PathBuf,
}

fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.expect("an entry").path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed")
}

fn id_of(kind: &str) -> u32 {
    let output = Command::new("id")
        .args([kind, "postgres"])
        .output()
        .expect("id runs");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .parse()
        .expect("a user postgres")
}

impl Server {
    fn start(name: &str) -> Self {
        let (uid, gid) = (id_of("-u"), id_of("-g"));
        let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).expect("chown");
        let data = directory.join("data");
        let made = Command::new(binaries().join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir(&directory)
            .uid(uid)
            .gid(gid)
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(made.success());
        let process = Command::new(binaries().join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .current_dir(&directory)
            .uid(uid)
            .gid(gid)
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        Self { process, directory }
    }

    async fn client(&self) -> Client {
        let socket = self.directory.to_str().expect("text").to_owned();
        let deadline = std::time::Duration::from_secs(60);
        let connected = tokio::time::timeout(deadline, async {
            loop {
                let mut config = tokio_postgres::Config::new();
                config
                    .host_path(Path::new(&socket))
                    .user("postgres")
                    .dbname("postgres");
                if let Ok((client, connection)) = config.connect(NoTls).await {
                    tokio::spawn(async move { connection.await.ok() });
                    return client;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        connected.await.expect("the server answers")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

async fn load(client: &Client) -> Catalog {
    Catalog::from_rows(&answers(client, CATALOG_QUERIES).await).expect("a catalog")
}

async fn answers(client: &Client, queries: &[CatalogQuery]) -> CatalogRows {
    let mut rows = CatalogRows::default();
    for query in queries {
        let answer = client.simple_query(query.sql).await.expect(query.name);
        let cells = answer
            .iter()
            .filter_map(|message| {
                let SimpleQueryMessage::Row(row) = message else {
                    return None;
                };
                Some(
                    (0..row.len())
                        .map(|at| row.get(at).map(str::to_owned))
                        .collect(),
                )
            })
            .collect();
        rows.0.push((query.name, cells));
    }
    rows
}

fn understood(catalog: &Catalog, sql: &str) -> Result<Vec<Statement>, SqlRefusal> {
    let (target, database) = (Arc::from("t"), Arc::from("postgres"));
    let search_path = [Arc::from("public")];
    let names = NameScope {
        lenient: false,
        path_settled: false,
        catalog,
        target: &target,
        database: &database,
        search_path: &search_path,
        role: "postgres",
    };
    understand(sql, &names, &SqlLimits::default())
}

/// Compares one statement with the server's description; a line for each difference.
async fn difference(client: &Client, catalog: &Catalog, sql: &str) -> Option<String> {
    let server = client.prepare(sql).await;
    let ours = understood(catalog, sql);
    let (server, ours) = match (server, ours) {
        (Ok(server), Ok(ours)) => (server, ours),
        (Err(_), Err(_)) => return None,
        (Ok(_), Err(refusal)) => return Some(format!("{sql}\n  refused: {refusal}")),
        (Err(error), Ok(_)) => {
            let text = error.as_db_error().map_or("?", |error| error.message());
            return Some(format!("{sql}\n  only the server refuses: {text}"));
        }
    };
    let [statement] = ours.as_slice() else {
        return Some(format!("{sql}\n  not one statement"));
    };
    let Some(columns) = &statement.columns else {
        return Some(format!("{sql}\n  columns not known"));
    };
    let described = server.columns();
    let names: Vec<&str> = described.iter().map(|column| column.name()).collect();
    let own: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    if names != own {
        return Some(format!("{sql}\n  server {names:?}\n  ours   {own:?}"));
    }
    for (theirs, ours) in described.iter().zip(columns) {
        let theirs = (
            theirs.table_oid().unwrap_or(0),
            theirs.column_id().unwrap_or(0),
        );
        if let Some(predicted) = ours.described
            && predicted != theirs
        {
            return Some(format!(
                "{sql}\n  column {}: server {theirs:?}, ours {predicted:?}",
                ours.name
            ));
        }
        // Whole rows and system columns have attribute numbers below 1.
        if theirs.0 != 0 && theirs.1 > 0 {
            let (relation, column) = catalog.column(theirs.0, theirs.1).expect("in the catalog");
            let id = format!("{}.{}", relation.name, column.name);
            let known = ours
                .exact
                .iter()
                .any(|object| object.id().ends_with(&id.replace('.', "/")));
            if !known {
                return Some(format!(
                    "{sql}\n  column {}: server {id}, ours {:?}",
                    ours.name, ours.exact
                ));
            }
        }
    }
    None
}

/// What psql sends for its backslash commands, taken from psql itself.
fn psql_queries(server: &Server, command: &str) -> Vec<String> {
    let output = Command::new(binaries().join("psql"))
        .args(["-X", "-E", "-U", "postgres", "-d", "postgres", "-h"])
        .arg(&server.directory)
        .args(["-c", command])
        .output()
        .expect("psql runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut queries = Vec::new();
    let mut inside: Option<String> = None;
    for line in text.lines() {
        if line.starts_with("********* QUERY") {
            inside = Some(String::new());
        } else if line.starts_with("**************************") {
            queries.extend(inside.take());
        } else if let Some(query) = &mut inside {
            query.push_str(line);
            query.push('\n');
        }
    }
    queries
}

#[test]
fn columns_agree_with_the_server() {
    let server = Server::start("weir-sql");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        client.batch_execute(SCHEMA).await.expect("the schema");
        let reader = server.client().await;
        let catalog = load(&reader).await;
        let again = load(&reader).await;
        assert_eq!(catalog.generation(), again.generation());
        let mut differences = Vec::new();
        let mut statements = 0;
        for sql in CORPUS
            .split(";\n")
            .map(str::trim)
            .filter(|sql| !sql.is_empty())
        {
            statements += 1;
            differences.extend(difference(&client, &catalog, sql).await);
        }
        assert!(statements >= 100, "{statements} statements");
        assert!(
            differences.is_empty(),
            "{} of {statements}:\n{}",
            differences.len(),
            differences.join("\n")
        );
    });
}

#[test]
fn what_a_session_sees_itself_is_understood_alike() {
    let server = Server::start("weir-live");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        client.batch_execute(SCHEMA).await.expect("the schema");
        let doubled = "CREATE TABLE doubled (a text, b text GENERATED ALWAYS AS (upper(a)) STORED)";
        client
            .batch_execute(doubled)
            .await
            .expect("a generated column");
        let catalog = load(&server.client().await).await;
        let renewed = catalog.renewed(&answers(&client, LIVE_QUERIES).await);
        let renewed = renewed.expect("a catalog");
        let generated = understood(&renewed, "SELECT b FROM doubled");
        assert!(format!("{generated:?}").contains("\"a\""), "{generated:?}");
        for sql in CORPUS
            .split(";\n")
            .chain(["SELECT b FROM doubled", "SELECT * FROM doubled"])
            .map(str::trim)
            .filter(|sql| !sql.is_empty())
        {
            let before = understood(&catalog, sql);
            assert_eq!(
                format!("{before:?}"),
                format!("{:?}", understood(&renewed, sql)),
                "{sql}"
            );
        }
    });
}

#[test]
fn psql_describes_are_plain_reads_of_the_catalog() {
    let server = Server::start("weir-psql");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = server.client().await;
        client.batch_execute(SCHEMA).await.expect("the schema");
        let catalog = load(&server.client().await).await;
        let mut problems = Vec::new();
        let mut count = 0;
        for command in COMMANDS {
            for sql in psql_queries(&server, command) {
                count += 1;
                match understood(&catalog, &sql) {
                    Err(refusal) => problems.push(format!("{command}: {refusal}\n{sql}")),
                    Ok(statements) => {
                        for access in statements.iter().flat_map(|one| &one.intent.accesses) {
                            let fine = matches!(
                                access.action,
                                "select" | "readColumn" | "usePredicate" | "session" | "show"
                            );
                            if !fine {
                                problems.push(format!(
                                    "{command}: {} {}",
                                    access.action,
                                    access.object.id()
                                ));
                            }
                        }
                        if sql.trim_start().starts_with("SELECT")
                            && let Some(problem) = difference(&client, &catalog, &sql).await
                        {
                            problems.push(format!("{command}: {problem}"));
                        }
                    }
                }
            }
        }
        assert!(count > 60, "{count} queries");
        assert!(
            problems.is_empty(),
            "{} problems:\n{}",
            problems.len(),
            problems.join("\n")
        );
    });
}
