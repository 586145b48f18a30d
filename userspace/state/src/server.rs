//! The state in PostgreSQL: one connection of the state thread, opened again when it broke.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::connect::ServerPlace;
use crate::db::{Cells, Value};
use crate::error::StateError;

/// Key of the advisory lock that keeps the writers of all nodes apart: "weir".
const LOCK: i64 = 0x7765_6972;
/// A server that does not answer is as good as gone: what waits for it is refused.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Channel on which every change is announced.
pub(crate) const CHANNEL: &str = "weir_state";

/// The connection and what drives it.
pub(crate) struct ServerLink {
    place: ServerPlace,
    runtime: Runtime,
    client: Option<Client>,
}

impl std::fmt::Debug for ServerLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerLink")
    }
}

impl ServerLink {
    /// Connects, so that a wrong address is known at the start.
    pub(crate) fn open(place: ServerPlace) -> Result<Self, StateError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("state-server")
            .enable_all()
            .build()
            .map_err(StateError::File)?;
        let mut link = Self {
            place,
            runtime,
            client: None,
        };
        link.connect()?;
        Ok(link)
    }

    fn connect(&mut self) -> Result<(), StateError> {
        let place = self.place.clone();
        let connected = self
            .runtime
            .block_on(async move { tokio::time::timeout(ANSWER_MAX, place.connect()).await });
        let (client, connection) = connected.map_err(|_elapsed| StateError::NoAnswer)??;
        self.runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the state server ended");
            }
        });
        self.client = Some(client);
        Ok(())
    }

    /// Begins; a connection that turns out to be broken is opened once more, as nothing was done.
    pub(crate) fn begin(&mut self) -> Result<(), StateError> {
        let sql = format!("begin; select pg_advisory_xact_lock({LOCK})");
        if self.client.is_some() && self.batch("begin", &sql).is_ok() {
            return Ok(());
        }
        self.connect()?;
        self.batch("begin", &sql)
    }

    pub(crate) fn batch(&mut self, doing: &'static str, sql: &str) -> Result<(), StateError> {
        self.run(doing, async |client| client.batch_execute(sql).await)
    }

    pub(crate) fn execute(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<usize, StateError> {
        let sql = numbered(sql);
        let changed = self.run(doing, async |client| {
            client.execute(&sql, &parameters(values)).await
        })?;
        usize::try_from(changed).map_err(|_error| StateError::Corrupt("count"))
    }

    pub(crate) fn query(
        &mut self,
        doing: &'static str,
        sql: &str,
        values: &[Value],
    ) -> Result<Vec<Cells>, StateError> {
        let sql = numbered(sql);
        let rows = self.run(doing, async |client| {
            client.query(&sql, &parameters(values)).await
        })?;
        rows.iter().map(cells).collect()
    }

    fn run<T>(
        &mut self,
        doing: &'static str,
        work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StateError> {
        let Some(client) = &self.client else {
            return Err(StateError::NoAnswer);
        };
        let outcome = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER_MAX, work(client)).await });
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(source)) => {
                if source.is_closed() {
                    self.client = None;
                }
                Err(StateError::Server { doing, source })
            }
            Err(_elapsed) => {
                // Nobody knows what becomes of it there: this connection is of no use any more.
                self.client = None;
                Err(StateError::NoAnswer)
            }
        }
    }
}

/// `?1` → `$1`. No statement of this crate has a question mark elsewhere.
fn numbered(sql: &str) -> String {
    sql.replace('?', "$")
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| -> &(dyn ToSql + Sync) {
            match value {
                Value::Text(text) => text,
                Value::Integer(number) => number,
                Value::Null => &None::<i64>,
            }
        })
        .collect()
}

fn cells(row: &Row) -> Result<Cells, StateError> {
    let mut cells = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        let read = || StateError::Corrupt("cell");
        let value = match *column.type_() {
            Type::INT8 => row
                .try_get::<_, Option<i64>>(at)
                .map_err(|_error| read())?
                .map(Value::Integer),
            Type::INT4 => row
                .try_get::<_, Option<i32>>(at)
                .map_err(|_error| read())?
                .map(|number| Value::Integer(i64::from(number))),
            _ => row
                .try_get::<_, Option<String>>(at)
                .map_err(|_error| read())?
                .map(Value::Text),
        };
        cells.push(value.unwrap_or(Value::Null));
    }
    Ok(Cells(cells))
}
