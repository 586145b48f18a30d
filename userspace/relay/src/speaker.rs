//! Who speaks on a flow: usually who connected it, but a socket can be inherited or handed over.

use std::sync::Arc;

use weir_model::addr::SocketCookie;
use weir_model::fact::FactContext;
use weir_model::flow::{FlowOrigin, ProcessAsk, ProcessEvidence};

use crate::bind;
use crate::node::Node;

/// Another process than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSpeaker {
    pub process: ProcessAsk,
    pub uid: u32,
}

/// Follows one flow's socket.
pub(crate) struct Speaker {
    cookie: SocketCookie,
    /// Number and start of who spoke last.
    current: (u32, u64),
}

impl Speaker {
    pub(crate) const fn new(origin: &FlowOrigin) -> Self {
        Self {
            cookie: origin.cookie,
            current: (origin.pid, origin.start_boottime_ns),
        }
    }

    /// Of a flow that another node process had; `pid` is who spoke last there.
    pub(crate) const fn again(origin: &FlowOrigin, pid: u32) -> Self {
        let start_ns = if pid == origin.pid {
            origin.start_boottime_ns
        } else {
            // Not known any more: the next bytes say it again.
            0
        };
        Self {
            cookie: origin.cookie,
            current: (pid, start_ns),
        }
    }

    /// Asked when bytes are there, so whoever sent them is known: one look into a map, no wait.
    pub(crate) fn changed(&mut self, node: &Node) -> Option<NewSpeaker> {
        let now = node.host.speaker(self.cookie)?;
        let process = (now.process.pid, now.process.start_boottime_ns);
        if process == self.current {
            return None;
        }
        self.current = process;
        Some(now)
    }
}

/// The columns of the record while only number and uid of the speaker are known.
pub(crate) fn unknown(context: &FactContext, speaker: &NewSpeaker) -> Arc<FactContext> {
    let evidence = ProcessEvidence {
        pid: speaker.process.pid,
        uid: speaker.uid,
        ..ProcessEvidence::default()
    };
    Arc::new(bind::of_process(context.clone(), speaker.uid, &evidence))
}

/// The columns of the record from here on.
pub(crate) async fn attributed(
    node: &Node,
    context: &FactContext,
    speaker: &NewSpeaker,
) -> Arc<FactContext> {
    match node.host.process(speaker.process).await {
        Ok(evidence) => Arc::new(bind::of_process(context.clone(), speaker.uid, &evidence)),
        Err(error) => {
            tracing::warn!(%error, pid = speaker.process.pid, "nothing is known of a speaker");
            unknown(context, speaker)
        }
    }
}
