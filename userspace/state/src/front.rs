//! The asynchronous front: a thread of its own, a bounded channel, a change signal.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use weir_model::ident::{ApprovalId, RevokedKind};
use weir_model::time::Now;

use crate::approval::{ApprovalRow, Decided, Decision, NewApproval, Prior, PriorKey};
use crate::error::StateError;
use crate::revocation::Revocation;
use crate::store::StateStore;

/// Calls that may wait for the thread.
const QUEUE_MAX: usize = 256;
/// Longest sleep of a waiter: a decision made through another process (during an upgrade), or a
/// wall clock that is set forward, is seen this late at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut StateStore) + Send>;

/// A handle to the store; clones share its thread, which ends with the last of them.
#[derive(Clone)]
pub struct State {
    jobs: mpsc::Sender<Job>,
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl State {
    /// Opens the file and starts the thread.
    ///
    /// # Errors
    /// As [`StateStore::open`], or the thread cannot be started.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let mut store = StateStore::open(path)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_MAX);
        std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut store);
                }
            })
            .map_err(|_error| StateError::Stopped)?;
        Ok(Self {
            jobs,
            changes: watch::Sender::new(0),
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut StateStore) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            // Nobody waits for the answer any more: the work is done all the same.
            let _gone = answer.send(work(store));
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_closed| StateError::Stopped)?;
        answered.await.map_err(|_closed| StateError::Stopped)?
    }

    fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// # Errors
    /// As [`StateStore::create`].
    pub async fn create(&self, new: NewApproval) -> Result<ApprovalId, StateError> {
        let id = self.run(move |store| store.create(&new)).await?;
        self.changed();
        Ok(id)
    }

    /// # Errors
    /// As [`StateStore::decide`].
    pub async fn decide(
        &self,
        id: ApprovalId,
        decision: Decision,
        now: Now,
    ) -> Result<ApprovalRow, StateError> {
        let row = self
            .run(move |store| store.decide(id, &decision, now))
            .await?;
        self.changed();
        Ok(row)
    }

    /// Waits for the outcome, at most until the request expires. An approval is used up by being
    /// returned as `Approved`; a second waiter sees `Used`.
    ///
    /// # Errors
    /// No such approval, or the store failed.
    pub async fn decided(&self, id: ApprovalId) -> Result<Decided, StateError> {
        loop {
            // Never asked to stop.
            let decided = self.decided_unless(id, std::future::pending()).await?;
            if let Some(decided) = decided {
                return Ok(decided);
            }
        }
    }

    /// As [`State::decided`], but `None` once `stop` is there: then nothing was used up, and
    /// another process may wait instead.
    ///
    /// # Errors
    /// No such approval, or the store failed.
    pub async fn decided_unless(
        &self,
        id: ApprovalId,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Option<Decided>, StateError> {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.changes.subscribe();
        let expires_us = self
            .get(id)
            .await?
            .ok_or(StateError::NotFound)?
            .new
            .expires_us;
        loop {
            changes.mark_unchanged();
            let now = weir_clock::now();
            if let Some(decided) = self.run(move |store| store.claim(id, now)).await? {
                return Ok(Some(decided));
            }
            let left_us = u64::try_from(expires_us - now.wall_us).unwrap_or_default();
            let wait = Duration::from_micros(left_us).min(LOOK_EVERY);
            tokio::select! {
                () = &mut stop => return Ok(None),
                // Either way the store is asked again; the sender lives as long as `self`.
                _woken = tokio::time::timeout(wait, changes.changed()) => {}
            }
        }
    }

    /// # Errors
    /// As [`StateStore::list`].
    pub async fn list(&self) -> Result<Vec<ApprovalRow>, StateError> {
        self.run(|store| store.list()).await
    }

    /// # Errors
    /// As [`StateStore::get`].
    pub async fn get(&self, id: ApprovalId) -> Result<Option<ApprovalRow>, StateError> {
        self.run(move |store| store.get(id)).await
    }

    /// A signal that something changed, for lists that follow.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// # Errors
    /// As [`StateStore::revoke`].
    pub async fn revoke(&self, entry: Revocation) -> Result<(), StateError> {
        self.run(move |store| store.revoke(&entry)).await
    }

    /// # Errors
    /// As [`StateStore::lift`].
    pub async fn lift(&self, kind: RevokedKind, value: String) -> Result<bool, StateError> {
        self.run(move |store| store.lift(kind, &value)).await
    }

    /// # Errors
    /// As [`StateStore::revocations`].
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StateError> {
        self.run(|store| store.revocations()).await
    }

    /// # Errors
    /// As [`StateStore::expire_due`].
    pub async fn expire_due(&self, now: Now) -> Result<usize, StateError> {
        let count = self.run(move |store| store.expire_due(now)).await?;
        if count > 0 {
            self.changed();
        }
        Ok(count)
    }

    /// # Errors
    /// As [`StateStore::mark_used`].
    pub async fn mark_used(&self, id: ApprovalId) -> Result<bool, StateError> {
        let now = weir_clock::now();
        self.run(move |store| store.mark_used(id, now)).await
    }

    /// # Errors
    /// As [`StateStore::abandon`].
    pub async fn abandon(&self, id: ApprovalId) -> Result<bool, StateError> {
        let now = weir_clock::now();
        let ended = self.run(move |store| store.abandon(id, now)).await?;
        if ended {
            self.changed();
        }
        Ok(ended)
    }

    /// # Errors
    /// As [`StateStore::take_prior_decision`].
    pub async fn take_prior_decision(&self, key: PriorKey) -> Result<Option<Prior>, StateError> {
        let now = weir_clock::now();
        self.run(move |store| store.take_prior_decision(&key, now))
            .await
    }
}
