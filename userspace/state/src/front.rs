//! The asynchronous front: a thread of its own, a bounded channel, a change signal.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use weir_model::ident::{ApprovalId, RevokedKind};
use weir_model::time::Now;

use crate::approval::{ApprovalRow, Decided, Decision, NewApproval, Reviewer, Standing};
use crate::connect::{self, ServerPlace};
use crate::error::StateError;
use crate::grant::Grant;
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
    /// Requests that somebody of this process waits for, or is about to.
    waiting: Arc<Mutex<BTreeSet<ApprovalId>>>,
}

/// While it lives, nobody else of this process takes the request over.
struct Waiting<'a> {
    state: &'a State,
    id: ApprovalId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.state.waits().remove(&self.id);
    }
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
        Self::over(StateStore::open(path)?, watch::Sender::new(0))
    }

    /// Opens a database that several nodes share, starts the thread and listens for their news.
    /// Blocks; not for the inside of a runtime. `news` is where the listening runs.
    ///
    /// # Errors
    /// As [`StateStore::open_server`], or the thread cannot be started.
    pub fn open_server(
        place: ServerPlace,
        news: &tokio::runtime::Handle,
    ) -> Result<Self, StateError> {
        let changes = watch::Sender::new(0);
        let state = Self::over(StateStore::open_server(place.clone())?, changes.clone())?;
        drop(news.spawn(connect::listen(place, changes)));
        Ok(state)
    }

    fn over(mut store: StateStore, changes: watch::Sender<u64>) -> Result<Self, StateError> {
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
            changes,
            waiting: Arc::default(),
        })
    }

    fn waits(&self) -> std::sync::MutexGuard<'_, BTreeSet<ApprovalId>> {
        // A panic while holding the lock cannot leave a set half-changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
        // Whoever made it waits for it; until then nobody could have decided it.
        self.waits().insert(id);
        self.changed();
        Ok(id)
    }

    /// # Errors
    /// As [`StateStore::standing`].
    pub async fn standing(&self, new: NewApproval) -> Result<Option<Standing>, StateError> {
        let now = weir_clock::now();
        let waiting = Arc::clone(&self.waiting);
        self.run(move |store| {
            // One job at a time looks and takes, so that two cannot take the same one.
            let mut waits = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let standing = store.standing(&new, &waits, now)?;
            if let Some(Standing::Pending(id)) = &standing {
                waits.insert(*id);
            }
            Ok(standing)
        })
        .await
    }

    /// # Errors
    /// As [`StateStore::adopt`].
    pub async fn adopt(&self, id: ApprovalId) -> Result<(), StateError> {
        self.waits().insert(id);
        self.run(move |store| store.adopt(id)).await
    }

    /// # Errors
    /// As [`StateStore::beat`].
    pub async fn beat(&self, node: String, alone: bool) -> Result<(), StateError> {
        let now = weir_clock::now();
        self.run(move |store| store.beat(&node, alone, now)).await
    }

    /// # Errors
    /// As [`StateStore::grants`].
    pub async fn grants(&self) -> Result<Vec<Grant>, StateError> {
        self.run(StateStore::grants).await
    }

    /// # Errors
    /// As [`StateStore::grant`].
    pub async fn grant(&self, id: ApprovalId) -> Result<Option<Grant>, StateError> {
        self.run(move |store| store.grant(id)).await
    }

    /// # Errors
    /// As [`StateStore::revoke_grant`].
    pub async fn revoke_grant(
        &self,
        id: ApprovalId,
        reviewer: Reviewer,
        reason: String,
    ) -> Result<Grant, StateError> {
        let now = weir_clock::now();
        let grant = self
            .run(move |store| store.revoke_grant(id, (&reviewer, &reason), now))
            .await?;
        self.changed();
        Ok(grant)
    }

    /// Waits until the grant is not in force any more: its time is over, or somebody revoked it.
    ///
    /// # Errors
    /// There is no such grant, or the store failed.
    pub async fn grant_over(&self, id: ApprovalId) -> Result<(), StateError> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let grant = self.grant(id).await?.ok_or(StateError::NotFound)?;
            let now = weir_clock::now();
            if !grant.is_in_force(now) {
                return Ok(());
            }
            let left_us = u64::try_from(grant.expires_us - now.wall_us).unwrap_or_default();
            let wait = Duration::from_micros(left_us).min(LOOK_EVERY);
            // Either way the store is asked again; the sender lives as long as `self`.
            let _woken = tokio::time::timeout(wait, changes.changed()).await;
        }
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
        let _waiting = Waiting { state: self, id };
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
        self.run(StateStore::list).await
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
        self.run(StateStore::revocations).await
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
}
