//! The node as its console sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use weir_console::{
    Away, Explained, Flow, Future, House, PolicyFile, Question, Recorded, Search, SessionRow,
};
use weir_model::ident::{RevokedKind, SessionId};
use weir_record::StoreAddress;
use weir_record::search::{self, SessionSearch};
use weir_relay::Node;
use weir_state::{Revocation, State};

use super::explain::explain;
use crate::admin::revocations;
use crate::config::Config;
use crate::policies;

/// People do not wait longer for the record.
const STORE_ANSWERS: Duration = Duration::from_secs(15);

pub(super) struct NodeHouse {
    node: Arc<Node>,
    state: State,
    store: Option<clickhouse::Client>,
    policies: PathBuf,
}

impl NodeHouse {
    pub(super) fn new(
        config: &Config,
        node: Arc<Node>,
        state: State,
        reader: Option<StoreAddress>,
    ) -> Self {
        Self {
            node,
            state,
            store: reader.map(|address| address.client()),
            policies: config.policies.clone(),
        }
    }

    /// One question to the record.
    fn ask<T: Send + 'static, F>(
        &self,
        question: impl FnOnce(clickhouse::Client) -> F,
    ) -> Future<Result<T, Away>>
    where
        F: std::future::Future<Output = Result<T, String>> + Send + 'static,
    {
        let Some(client) = self.store.clone() else {
            return Box::pin(async {
                let text = "There is no record to ask: record.clickhouse is not configured.";
                Err(Away(text.to_owned()))
            });
        };
        let answer = question(client);
        Box::pin(async move {
            let away = |error: &str| {
                tracing::warn!(error, "the console cannot ask the record");
                Away("The record does not answer. Nothing of it is lost meanwhile.".to_owned())
            };
            match timeout(STORE_ANSWERS, answer).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(away(&error)),
                Err(_late) => Err(away("no answer in time")),
            }
        })
    }
}

fn row(found: search::FoundSession) -> SessionRow {
    SessionRow {
        session: found.session,
        started: found.started,
        workload: found.workload,
        principal: found.principal,
        target: found.target,
        protocol: found.protocol,
        exe: found.exe,
        requests: found.requests,
        denied: found.denied,
        held: found.held,
        rows: found.rows,
        masked: found.masked,
    }
}

impl House for NodeHouse {
    fn flows(&self) -> Vec<Flow> {
        let rows = self.node.flows().into_iter();
        rows.map(|row| Flow {
            session: row.session,
            workload: row.workload.to_string(),
            target: row.target.to_string(),
            principal: row.owner.principal,
            client_addr: row.client_addr,
            server_addr: row.server_addr,
            pid: row.pid,
            comm: row.comm,
            opened_us: row.opened_us,
        })
        .collect()
    }

    fn revoke(&self, entry: Revocation) -> Future<Result<usize, Away>> {
        let (node, state) = (Arc::clone(&self.node), self.state.clone());
        Box::pin(async move {
            let value = revocations::normal(entry.kind, &entry.value)
                .ok_or_else(|| Away("There is no such subject.".to_owned()))?;
            let entry = Revocation { value, ..entry };
            revocations::enforce(&node, &state, entry)
                .await
                .map_err(Away)
        })
    }

    fn lift(&self, kind: RevokedKind, value: String) -> Future<Result<bool, Away>> {
        let (node, state) = (Arc::clone(&self.node), self.state.clone());
        Box::pin(async move {
            let removed = state.lift(kind, value.clone()).await;
            let removed = removed.map_err(|error| Away(error.to_string()))?;
            if removed {
                node.lift(kind, &value);
                tracing::warn!(kind = kind.label(), %value, "lifted a revocation in the console");
            }
            Ok(removed)
        })
    }

    fn search(&self, search: Search) -> Future<Result<Vec<SessionRow>, Away>> {
        self.ask(|client| async move {
            let search = SessionSearch {
                text: search.text,
                workload: search.workload,
                target: search.target,
                remarkable: search.remarkable,
                days: search.days,
                limit: search.limit,
            };
            let found = search::sessions(&client, &search).await?;
            Ok(found.into_iter().map(row).collect())
        })
    }

    fn facts(&self, session: SessionId, from: u32, limit: u32) -> Future<Result<Recorded, Away>> {
        self.ask(move |client| async move {
            let more = limit.saturating_add(1);
            let mut facts = search::facts(&client, session.0, from, more).await?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = facts.len() > limit;
            facts.truncate(limit);
            Ok(Recorded { facts, more })
        })
    }

    fn cast(&self, session: SessionId, seq: u64) -> Future<Result<Option<String>, Away>> {
        self.ask(move |client| async move {
            let cast = search::terminal(&client, session.0, seq).await?;
            Ok((!cast.is_empty()).then_some(cast))
        })
    }

    fn policies(&self) -> Result<Vec<PolicyFile>, Away> {
        let sources = policies::read(&self.policies).map_err(|error| {
            tracing::warn!(%error, "the console cannot read the policies");
            Away("The policies cannot be read; the last good ones stay in force.".to_owned())
        })?;
        let files = sources.into_iter().map(|source| PolicyFile {
            name: source.name,
            text: source.text,
        });
        Ok(files.collect())
    }

    fn explain(&self, question: Question) -> Option<Future<Result<Explained, Away>>> {
        let node = Arc::clone(&self.node);
        Some(Box::pin(async move { explain(&node, question).await }))
    }
}
