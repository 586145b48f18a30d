//! Worker threads: each owns a single-threaded runtime, a lane of the spool, and its flows.
//!
//! A flow stays on the thread that took it, so that a request's record is appended by the thread
//! that forwards it, without a hop.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Duration, MissedTickBehavior, interval};
use weir_accept::Accepted;
use weir_model::fact::Fact;
use weir_model::ident::SessionId;
use weir_model::time::Now;
use weir_record::FileSegment;
use weir_spool::{Lane, Receipt, SpoolError};

use crate::arrival;
use crate::connection;
use crate::host::Moving;
use crate::moved::Moved;
use crate::node::Node;

/// Accepted flows that may wait for a worker; beyond it they are refused.
const BACKLOG_MAX: usize = 1024;
/// Flows of one worker; beyond it new ones are refused.
const FLOWS_MAX: usize = 20_000;
/// Facts that no request waits for (replies, ends) are in the spool after this at the latest.
const LAZY_COMMIT: Duration = Duration::from_millis(5);

/// One thread's end of the spool, shared by its flows.
pub(crate) struct Pen {
    lane: RefCell<Lane<FileSegment>>,
    dirty: std::cell::Cell<bool>,
    /// Said once, until it goes on.
    stopped: std::cell::Cell<bool>,
}

impl Pen {
    fn new(lane: Lane<FileSegment>) -> Self {
        Self {
            lane: RefCell::new(lane),
            dirty: std::cell::Cell::new(false),
            stopped: std::cell::Cell::new(false),
        }
    }

    /// Buffers facts; nothing is durable yet.
    pub(crate) fn push(&self, facts: &[Fact]) -> Result<(), SpoolError> {
        let mut lane = self.lane.borrow_mut();
        for fact in facts {
            lane.push(fact)?;
        }
        self.dirty.set(true);
        Ok(())
    }

    /// Makes all that was pushed durable; the receipt of one session is returned, and nobody else
    /// on this thread waits for another.
    pub(crate) fn commit(
        &self,
        session: SessionId,
        now: Now,
    ) -> Result<Option<Receipt>, SpoolError> {
        let receipts = self.lane.borrow_mut().commit(now)?;
        self.dirty.set(false);
        Ok(receipts
            .iter()
            .find(|receipt| receipt.session() == session)
            .copied())
    }

    fn commit_lazy(&self) {
        let now = weir_clock::now();
        if !self.dirty.replace(false) {
            self.lane.borrow_mut().rest(now);
            return;
        }
        let committed = self.lane.borrow_mut().commit(now);
        let stopped = committed.is_err();
        // What is in the buffer is tried again, whether or not anything comes after it.
        self.dirty.set(stopped);
        if self.stopped.replace(stopped) == stopped {
            return;
        }
        match committed {
            Ok(_) => tracing::warn!("the spool takes facts again; traffic goes on"),
            Err(error) => {
                tracing::error!(%error, "facts could not be put into the spool; traffic stops");
            }
        }
    }
}

/// What a worker is given.
enum Arriving {
    New(Box<Accepted>),
    Moved(Box<Moved>),
}

/// Hands accepted flows to the workers.
#[derive(Clone)]
pub struct Intake {
    workers: Arc<[WorkerEnd]>,
}

/// An intake that does not keep the workers waiting for more.
#[derive(Clone)]
pub struct WeakIntake {
    workers: Weak<[WorkerEnd]>,
}

impl WeakIntake {
    /// As [`Intake::take_up`]; false also once the intake is gone.
    #[must_use]
    pub fn take_up(&self, moving: Moving) -> bool {
        match self.workers.upgrade() {
            Some(workers) => Intake { workers }.take_up(moving),
            None => false,
        }
    }
}

struct WorkerEnd {
    flows: mpsc::Sender<Arriving>,
    open: Arc<AtomicUsize>,
}

impl Intake {
    /// Gives a flow to the worker with the fewest; false when all are full, and the flow is
    /// closed by that.
    #[must_use]
    pub fn offer(&self, flow: Accepted) -> bool {
        self.give(Arriving::New(Box::new(flow)))
    }

    #[must_use]
    pub fn downgrade(&self) -> WeakIntake {
        WeakIntake {
            workers: Arc::downgrade(&self.workers),
        }
    }

    /// Takes up a session that the broker passed from the node before this one; false when that
    /// cannot be, which closes it.
    #[must_use]
    pub fn take_up(&self, moving: Moving) -> bool {
        match Moved::decode(moving) {
            Ok(moved) => self.give(Arriving::Moved(Box::new(moved))),
            Err(why) => {
                tracing::error!(%why, "a session of the node before this one is closed");
                false
            }
        }
    }

    fn give(&self, flow: Arriving) -> bool {
        let least = self
            .workers
            .iter()
            .min_by_key(|worker| worker.open.load(Ordering::Relaxed));
        match least {
            Some(worker) if worker.open.load(Ordering::Relaxed) < FLOWS_MAX => {
                worker.flows.try_send(flow).is_ok()
            }
            Some(_) | None => false,
        }
    }
}

/// Running worker threads.
pub struct Workers {
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread per lane.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(
        node: &Arc<Node>,
        lanes: Vec<Lane<FileSegment>>,
    ) -> std::io::Result<(Self, Intake)> {
        let mut threads = Vec::with_capacity(lanes.len());
        let mut ends = Vec::with_capacity(lanes.len());
        for (index, lane) in lanes.into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
            let open = Arc::new(AtomicUsize::new(0));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let (node, counter) = (Arc::clone(node), Arc::clone(&open));
            let thread = std::thread::Builder::new()
                .name(format!("weir-flows-{index}"))
                .spawn(move || work(&runtime, &node, lane, receiver, &counter))?;
            threads.push(thread);
            ends.push(WorkerEnd {
                flows: sender,
                open,
            });
        }
        Ok((
            Self { threads },
            Intake {
                workers: ends.into(),
            },
        ))
    }

    /// Waits until every worker has ended, which they do once the intake is gone and their flows
    /// are closed.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
    }
}

fn work(
    runtime: &tokio::runtime::Runtime,
    node: &Arc<Node>,
    lane: Lane<FileSegment>,
    mut flows: mpsc::Receiver<Arriving>,
    open: &Arc<AtomicUsize>,
) {
    let local = LocalSet::new();
    let pen = Rc::new(Pen::new(lane));
    let ticking = Rc::clone(&pen);
    let ticker = local.spawn_local(async move {
        let mut ticks = interval(LAZY_COMMIT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            ticking.commit_lazy();
        }
    });
    local.block_on(runtime, async {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                flow = flows.recv() => match flow {
                    Some(flow) => {
                        open.fetch_add(1, Ordering::Relaxed);
                        let (node, pen) = (Arc::clone(node), Rc::clone(&pen));
                        tasks.spawn_local(async move {
                            match flow {
                                Arriving::New(flow) => arrival::serve(node, pen, *flow).await,
                                Arriving::Moved(flow) => {
                                    connection::serve_moved(node, pen, *flow).await;
                                }
                            }
                        });
                    }
                    None => break,
                },
                Some(ended) = tasks.join_next() => {
                    open.fetch_sub(1, Ordering::Relaxed);
                    if ended.is_err() {
                        tracing::error!("a flow's task panicked; the flow is closed");
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    });
    ticker.abort();
    pen.commit_lazy();
}
