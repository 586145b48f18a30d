//! The connection over which a catalog is read, kept for a while: where one definition changes, more do.
//!
//! `tokio-postgres` logs in; [`ScramOnly`] stands between it and the socket, since that library
//! would answer a request for a clear-text or MD5 password, and the credential may only go to a
//! server that proves to know it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use weir_postgres::MARK;
use weir_postgres::catalog::{CATALOG_QUERIES, CatalogQuery, CatalogRows, LIVE_QUERIES};

use super::scram_only::ScramOnly;
use super::{CatalogQuestion, NoCatalog};
use crate::node::Node;
use crate::upstream;

/// A connection that was not used for so long is closed. DROP DATABASE waits five seconds for others to
/// leave (`CountOtherDBBackends`), and must not fail because of us.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Rows of one catalog query; larger catalogs are refused, never cut.
const ROWS_MAX: usize = 2_000_000;

/// What is read.
#[derive(Clone, Copy)]
pub(super) enum What {
    Everything,
    /// What is not the server's own.
    Own,
}

/// A connection that waits for its next use.
#[derive(Default)]
pub(super) struct Idle(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    reader: Option<Reader>,
    /// Counts uses: who would close it sees whether there was another one.
    uses: u64,
}

struct Reader {
    client: Client,
    driver: JoinHandle<()>,
    /// Statements of [`What::Own`] are prepared at the server, under names with this in them: behind a
    /// pooler an agent may have prepared others on the same backend.
    secret: u128,
    prepared: bool,
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It would end by itself once the client is gone; errors of it came out of the client.
        self.driver.abort();
    }
}

impl Idle {
    /// Reads over the kept connection, or over a new one.
    pub(super) async fn read(
        &self,
        node: &Node,
        question: &CatalogQuestion,
        what: What,
    ) -> Result<CatalogRows, NoCatalog> {
        if let Some(mut reader) = self.take()
            && let Ok(rows) = reader.read(what).await
        {
            self.keep(reader);
            return Ok(rows);
        }
        let mut reader = Reader::connect(node, question).await.map_err(not_read)?;
        let rows = reader.read(what).await.map_err(not_read)?;
        self.keep(reader);
        Ok(rows)
    }

    fn take(&self) -> Option<Reader> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.reader
            .take()
            .filter(|reader| !reader.client.is_closed())
    }

    fn keep(&self, reader: Reader) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.reader = Some(reader);
        kept.uses += 1;
        let (uses, place) = (kept.uses, Arc::downgrade(&self.0));
        drop(kept);
        tokio::spawn(async move {
            sleep(IDLE_MAX).await;
            let Some(place) = place.upgrade() else { return };
            let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.uses == uses {
                kept.reader = None;
            }
        });
    }
}

fn not_read(detail: String) -> NoCatalog {
    NoCatalog {
        text: "weir: the catalog of this database cannot be read",
        detail,
    }
}

impl Reader {
    async fn connect(node: &Node, question: &CatalogQuestion) -> Result<Self, String> {
        let opening = upstream::stream(node, &question.target, question.netns, question.server);
        let stream = opening.await?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&question.login.user)
            .password(question.login.secret.as_bytes())
            .dbname(&*question.database)
            .application_name("weir catalog")
            .ssl_mode(tokio_postgres::config::SslMode::Disable);
        // A server that TLS has proven may ask for the password in other ways.
        let stream = match &question.target.upstream_tls {
            Some(_) => ScramOnly::proven(stream),
            None => ScramOnly::new(stream),
        };
        let (client, connection) = config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection for catalogs ended");
            }
        });
        Ok(Self {
            client,
            driver,
            secret: rand::random(),
            prepared: false,
        })
    }

    async fn read(&mut self, what: What) -> Result<CatalogRows, String> {
        match what {
            What::Everything => self.each(CATALOG_QUERIES).await,
            What::Own => match self.own().await {
                Ok(rows) => Ok(rows),
                // A pooler may give each transaction another backend.
                Err(_) => self.each(LIVE_QUERIES).await,
            },
        }
    }

    async fn each(&self, queries: &[CatalogQuery]) -> Result<CatalogRows, String> {
        let mut rows = Vec::with_capacity(queries.len());
        for query in queries {
            let messages = self.said(query, &format!("{MARK}{}", query.sql)).await?;
            rows.push((query.name, texts(&messages)?));
        }
        Ok(CatalogRows(rows))
    }

    /// Planned once: planning takes most of the time of a small catalog.
    async fn own(&mut self) -> Result<CatalogRows, String> {
        if !self.prepared {
            for query in LIVE_QUERIES {
                let prepare = format!("{MARK}PREPARE {} AS {}", self.name(query), query.sql);
                self.said(query, &prepare).await?;
            }
            self.prepared = true;
        }
        let executes: Vec<String> = LIVE_QUERIES
            .iter()
            .map(|query| format!("EXECUTE {}", self.name(query)))
            .collect();
        let all = format!("{MARK}{}", executes.join("; "));
        let said = self.client.simple_query(&all).await;
        let said = said.map_err(|error| error.to_string())?;
        let mut answers = said.split(|one| matches!(one, SimpleQueryMessage::CommandComplete(_)));
        let mut rows = Vec::with_capacity(LIVE_QUERIES.len());
        for query in LIVE_QUERIES {
            let messages = answers.next().ok_or("an answer is missing")?;
            rows.push((query.name, texts(messages)?));
        }
        Ok(CatalogRows(rows))
    }

    fn name(&self, query: &CatalogQuery) -> String {
        format!("weir_{}_{:032x}", query.name, self.secret)
    }

    async fn said(
        &self,
        query: &CatalogQuery,
        sql: &str,
    ) -> Result<Vec<SimpleQueryMessage>, String> {
        let said = self.client.simple_query(sql).await;
        said.map_err(|error| format!("{}: {error}", query.name))
    }
}

fn texts(messages: &[SimpleQueryMessage]) -> Result<Vec<Vec<Option<String>>>, String> {
    if messages.len() > ROWS_MAX {
        return Err(format!("more than {ROWS_MAX} rows"));
    }
    let mut rows = Vec::with_capacity(messages.len());
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            let cells = (0..row.len()).map(|index| row.get(index).map(ToOwned::to_owned));
            rows.push(cells.collect());
        }
    }
    Ok(rows)
}
