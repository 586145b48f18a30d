//! Which SQL a bearer may send.

use crate::answer::Failure;

/// An insert, taken apart and put together anew, so that nothing else can be in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    /// `INSERT INTO t (a, b)`, without FORMAT.
    pub(crate) statement: String,
    pub(crate) format: String,
}

const TABLES: &[&str] = &["fact", "batch", "node_key", "anchor"];
const FORMATS: &[&str] = &[
    "RowBinary",
    "RowBinaryWithNamesAndTypes",
    "JSONEachRow",
    "Native",
];

/// `INSERT INTO [db.]fact|batch|node_key|anchor [(columns)] FORMAT word`, and nothing else.
///
/// # Errors
/// 497 for anything else.
pub(crate) fn insert(sql: &str) -> Result<Insert, Failure> {
    parse_insert(sql).ok_or_else(|| {
        Failure::new(
            497,
            "the writer may only insert into fact and batch, in a known format",
        )
    })
}

fn word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// An identifier with or without backticks.
fn plain(name: &str) -> Option<&str> {
    let name = name.trim();
    let name = name
        .strip_prefix('`')
        .and_then(|n| n.strip_suffix('`'))
        .unwrap_or(name);
    word(name).then_some(name)
}

fn after<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let head = text.get(..keyword.len())?;
    let rest = text.get(keyword.len()..)?;
    let ends = rest.starts_with(|c: char| c.is_ascii_whitespace());
    (head.eq_ignore_ascii_case(keyword) && ends).then_some(rest)
}

fn parse_insert(sql: &str) -> Option<Insert> {
    let rest = after(after(sql, "INSERT")?, "INTO")?.trim_start();
    let end = rest.find(|c: char| c == '(' || c.is_ascii_whitespace())?;
    let (table, rest) = rest.split_at(end);
    let (database, table) = match table.split_once('.') {
        Some((database, table)) => (Some(plain(database)?), plain(table)?),
        None => (None, plain(table)?),
    };
    if !TABLES.contains(&table) {
        return None;
    }
    let mut statement = "INSERT INTO ".to_owned();
    if let Some(database) = database {
        statement.push_str(&format!("`{database}`."));
    }
    statement.push_str(&format!("`{table}`"));
    let mut rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('(') {
        let (columns, after) = list.split_once(')')?;
        let columns: Option<Vec<String>> = columns
            .split(',')
            .map(|c| plain(c).map(|c| format!("`{c}`")))
            .collect();
        statement.push_str(&format!(" ({})", columns?.join(", ")));
        rest = after;
    }
    let format = after(rest, "FORMAT")?.trim();
    FORMATS.contains(&format).then(|| Insert {
        statement,
        format: format.to_owned(),
    })
}

/// Words that let a SELECT leave the data: refused wherever they stand outside a string.
const REFUSED_WORDS: &[&str] = &["settings", "into", "outfile", "infile", "compression"];
/// Functions that read or write something else than tables, by prefix, when called.
const REFUSED_CALLS: &[&str] = &[
    "file",
    "url",
    "s3",
    "gcs",
    "oss",
    "cosn",
    "hdfs",
    "azure",
    "remote",
    "cluster",
    "mysql",
    "postgresql",
    "sqlite",
    "mongo",
    "redis",
    "odbc",
    "jdbc",
    "executable",
    "iceberg",
    "delta",
    "hudi",
    "paimon",
    "ytsaurus",
    "arrowflight",
    "input",
    "python",
    "dictionary",
    "dictget",
    "joinget",
    "catboost",
    "format",
    "prometheus",
    "timeseries",
    "loop",
    "view",
    "mergetree",
    "fuzz",
    "filesystem",
    "sleep",
    "addresstoline",
    "demangle",
    "getclienthttpheader",
];
/// Functions whose names begin like a refused one and are harmless.
const ALLOWED_CALLS: &[&str] = &[
    "formatdatetime",
    "formatreadablesize",
    "formatreadablequantity",
    "formatreadabletimedelta",
    "formatreadabledecimalsize",
    "viewifpermitted",
];

/// A normalised SELECT as the reader may run it.
///
/// `normalised` must be the output of `formatQuerySingleLine`, which refuses open comments, stray
/// brackets and second statements; only then is wrapping in brackets sound.
///
/// # Errors
/// 497 when it is no SELECT or reaches outside the tables.
pub(crate) fn wrap(normalised: &str) -> Result<String, Failure> {
    let text = normalised.trim();
    let start = text.trim_start_matches('(').trim_start();
    if after(start, "SELECT").is_none() && after(start, "WITH").is_none() {
        return Err(Failure::new(497, "readers may only send SELECT"));
    }
    let tokens = tokens(text).ok_or_else(|| Failure::new(62, "a quote is not closed"))?;
    for (at, token) in tokens.iter().enumerate() {
        let name = token.to_ascii_lowercase();
        let called = tokens.get(at + 1).is_some_and(|next| next == "(");
        let refused = REFUSED_WORDS.contains(&name.as_str())
            || (called
                && !ALLOWED_CALLS.contains(&name.as_str())
                && REFUSED_CALLS.iter().any(|prefix| name.starts_with(prefix)));
        if refused {
            return Err(Failure::new(
                497,
                format_args!("readers may not use {name}"),
            ));
        }
    }
    Ok(format!("SELECT * FROM ({text})"))
}

/// Identifiers (quoted or not) and single signs; strings are left out.
fn tokens(text: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '`' | '"' => {
                let mut inner = String::new();
                loop {
                    match chars.next()? {
                        '\\' => inner.push(chars.next()?),
                        end if end == c => {
                            if chars.peek() != Some(&c) {
                                break;
                            }
                            inner.extend(chars.next());
                        }
                        other => inner.push(other),
                    }
                }
                if c != '\'' {
                    out.push(inner);
                }
            }
            c if c.is_whitespace() => {}
            c if c.is_alphanumeric() || c == '_' => {
                let mut name = c.to_string();
                while let Some(next) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    name.push(next);
                }
                out.push(name);
            }
            // Heredocs and comments do not survive normalisation; if one is here, something is off.
            '$' | ';' => return None,
            other => out.push(other.to_string()),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_are_rebuilt_from_their_parts() {
        let got = insert("insert into weir.fact (a, `b`) FORMAT RowBinary").unwrap();
        assert_eq!(got.statement, "INSERT INTO `weir`.`fact` (`a`, `b`)");
        assert_eq!(got.format, "RowBinary");
        for table in TABLES {
            assert!(insert(&format!("INSERT INTO {table} FORMAT JSONEachRow")).is_ok());
        }
    }

    #[test]
    fn the_writer_can_do_nothing_else() {
        for sql in [
            "SELECT 1",
            "DROP TABLE fact",
            "INSERT INTO other FORMAT RowBinary",
            "INSERT INTO FUNCTION file('/x') FORMAT RowBinary",
            "INSERT INTO fact SELECT * FROM file('/etc/passwd')",
            "INSERT INTO fact (a) SETTINGS x = 1 FORMAT RowBinary",
            "INSERT INTO fact (a); DROP TABLE fact FORMAT RowBinary",
            "INSERT INTO fact FORMAT RowBinary; DROP TABLE fact",
            "INSERT INTO fact (* EXCEPT(a)) FORMAT RowBinary",
            "INSERT INTO fact FORMAT Template",
        ] {
            assert_eq!(insert(sql).unwrap_err().code, 497, "{sql}");
        }
    }

    #[test]
    fn readers_stay_inside_the_tables() {
        for sql in [
            "SELECT * FROM (SELECT * FROM file('/etc/hostname', 'LineAsString') SETTINGS readonly = 0)",
            "SELECT file('/etc/passwd')",
            "SELECT `file`('/etc/passwd')",
            "SELECT 1 INTO OUTFILE '/x'",
            "SELECT * FROM url('http://x', CSV)",
            "SELECT * FROM urlCluster('c', 'http://x')",
            "SELECT * FROM remote('x', system.one)",
            "SELECT sleep(3)",
            "KILL QUERY WHERE 1",
            "DESCRIBE TABLE fact",
            "SELECT 1; DROP TABLE fact",
            "SELECT 'open",
        ] {
            assert!(wrap(sql).is_err(), "{sql}");
        }
        assert_eq!(
            wrap("SELECT 'settings into file(' FROM fact").unwrap(),
            "SELECT * FROM (SELECT 'settings into file(' FROM fact)"
        );
        assert!(wrap("WITH 1 AS x SELECT x, any(file) FROM t").is_ok());
    }
}
