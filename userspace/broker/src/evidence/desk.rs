//! The thread that gathers evidence: reading a binary must not delay a heartbeat.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};

use weir_model::flow::ProcessAsk;

use super::Evidence;
use crate::message::{Answer, FromBroker, send};
use crate::serve::monotonic_ns;

/// Questions that may wait; more are refused.
const WAITING_MAX: usize = 1024;

struct Job {
    id: u64,
    ask: ProcessAsk,
    node: OwnedFd,
}

/// Takes questions and answers them by itself.
pub(crate) struct Desk(SyncSender<Job>);

impl Desk {
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(mut evidence: Evidence) -> io::Result<Self> {
        let (sender, jobs) = sync_channel::<Job>(WAITING_MAX);
        std::thread::Builder::new()
            .name("weir-evidence".to_owned())
            .spawn(move || {
                while let Ok(job) = jobs.recv() {
                    let answer = match evidence.gather(&job.ask, monotonic_ns()) {
                        Some(report) => Answer::Process(Box::new(report)),
                        None => Answer::Refused("the process is gone".to_owned()),
                    };
                    let message = FromBroker::Answer { id: job.id, answer };
                    if let Err(error) = send(job.node.as_fd(), &message, &[]) {
                        tracing::warn!(%error, "evidence did not reach the node");
                    }
                }
            })?;
        Ok(Self(sender))
    }

    /// False when too many wait, or the node's socket cannot be kept.
    pub(crate) fn ask(&self, id: u64, ask: ProcessAsk, node: BorrowedFd<'_>) -> bool {
        let Ok(node) = node.try_clone_to_owned() else {
            return false;
        };
        self.0.try_send(Job { id, ask, node }).is_ok()
    }
}
