//! One way to ask two databases: SQLite for a single node, PostgreSQL where nodes share.
//!
//! Statements are written once, in what both understand, with `?1`-style parameters. Every call
//! runs inside [`Db::transaction`], which keeps writers apart: an immediate transaction in one, an
//! advisory lock in the other.

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::error::{Doing, StateError};
use crate::server::ServerLink;

/// A parameter or a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Null,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Null => ValueRef::Null,
        }))
    }
}

/// One row of an answer, read by position.
#[derive(Debug)]
pub(crate) struct Cells(pub(crate) Vec<Value>);

impl Cells {
    pub(crate) fn text(&self, at: usize) -> Result<String, StateError> {
        match self.0.get(at) {
            Some(Value::Text(text)) => Ok(text.clone()),
            Some(Value::Integer(_) | Value::Null) | None => Err(StateError::Corrupt("text")),
        }
    }

    pub(crate) fn integer(&self, at: usize) -> Result<i64, StateError> {
        self.maybe_integer(at)?.ok_or(StateError::Corrupt("number"))
    }

    pub(crate) fn maybe_integer(&self, at: usize) -> Result<Option<i64>, StateError> {
        match self.0.get(at) {
            Some(Value::Integer(number)) => Ok(Some(*number)),
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_)) | None => Err(StateError::Corrupt("number")),
        }
    }

    /// A JSON array of texts.
    pub(crate) fn list(&self, at: usize) -> Result<Vec<String>, StateError> {
        serde_json::from_str(&self.text(at)?).map_err(|_error| StateError::Corrupt("list"))
    }
}

/// A list in one cell.
pub(crate) fn list_text(list: &[String]) -> Value {
    Value::Text(serde_json::Value::from(list).to_string())
}

/// Where the state is.
#[derive(Debug)]
pub(crate) enum Db {
    File(Connection),
    Server(Box<ServerLink>),
}

impl Db {
    /// Runs `work` in one transaction; what it did is undone when it fails.
    pub(crate) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        self.begin()?;
        match work(self) {
            Ok(value) => {
                self.batch("commit", "commit")?;
                Ok(value)
            }
            Err(error) => {
                // The first error is the one to tell; a connection that is gone rolls back by itself.
                let _undone = self.batch("rollback", "rollback");
                Err(error)
            }
        }
    }

    fn begin(&mut self) -> Result<(), StateError> {
        match self {
            // Immediate: what is read decides what is written, also against another process.
            Self::File(db) => db.execute_batch("begin immediate").doing("begin"),
            Self::Server(link) => link.begin(),
        }
    }

    /// Statements without parameters.
    pub(crate) fn batch(&mut self, doing: &'static str, sql: &str) -> Result<(), StateError> {
        match self {
            Self::File(db) => db.execute_batch(sql).doing(doing),
            Self::Server(link) => link.batch(doing, sql),
        }
    }

    /// How many rows were changed.
    pub(crate) fn execute(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<usize, StateError> {
        match self {
            Self::File(db) => {
                let mut statement = db.prepare_cached(sql).doing(doing)?;
                statement
                    .execute(rusqlite::params_from_iter(values))
                    .doing(doing)
            }
            Self::Server(link) => link.execute(doing, sql, values),
        }
    }

    /// All rows of the answer.
    pub(crate) fn query(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<Vec<Cells>, StateError> {
        match self {
            Self::File(db) => {
                let mut statement = db.prepare_cached(sql).doing(doing)?;
                let width = statement.column_count();
                let mut rows = statement
                    .query(rusqlite::params_from_iter(values))
                    .doing(doing)?;
                let mut list = Vec::new();
                while let Some(row) = rows.next().doing(doing)? {
                    let mut cells = Vec::with_capacity(width);
                    for at in 0..width {
                        cells.push(match row.get_ref(at).doing(doing)? {
                            ValueRef::Null => Value::Null,
                            ValueRef::Integer(number) => Value::Integer(number),
                            ValueRef::Text(text) => Value::Text(
                                std::str::from_utf8(text)
                                    .map_err(|_error| StateError::Corrupt("text"))?
                                    .to_owned(),
                            ),
                            ValueRef::Real(_) | ValueRef::Blob(_) => {
                                return Err(StateError::Corrupt("cell"));
                            }
                        });
                    }
                    list.push(Cells(cells));
                }
                Ok(list)
            }
            Self::Server(link) => link.query(doing, sql, values),
        }
    }
}
