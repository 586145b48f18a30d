//! The broker as the relay sees it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};
use weir_broker::client::{AWAY_MAX, LinkError, NodeLink};
use weir_broker::{Passed, PodToken, ProcessReport, RuntimeAsk};
use weir_govern::CancelKey;
use weir_identify::Secret;
use weir_kernel::Speakers;
use weir_model::addr::{CgroupId, NetnsCookie, SocketCookie};
use weir_model::flow::{ProcessAsk, ProcessEvidence};
use weir_model::ident::SessionId;
use weir_relay::{Answer, FlowNote, Host, HostError, Moving, NewSpeaker, PodAsk};

use super::arguments::Arguments;
use super::upgrade::{claim, handed_over};

/// The broker answers from memory and short system calls; longer means that it hangs. One that is
/// gone is waited for first.
const ANSWER_TIME_MAX: Duration = AWAY_MAX.saturating_add(Duration::from_secs(3));

/// A [`Host`] over the broker's socket.
pub(crate) struct BrokerHost {
    link: Arc<NodeLink>,
    arguments: Arc<Arguments>,
    speakers: Option<Speakers>,
}

impl BrokerHost {
    pub(crate) fn new(
        link: Arc<NodeLink>,
        arguments: Arguments,
        speakers: Option<Speakers>,
    ) -> Self {
        Self {
            link,
            arguments: Arc::new(arguments),
            speakers,
        }
    }
}

fn host_error(error: LinkError) -> HostError {
    match error {
        LinkError::Gone => HostError::Gone,
        LinkError::Refused(text) => HostError::Refused(text),
        LinkError::Confused => HostError::Refused("the answer does not fit".to_owned()),
    }
}

/// Asks with a callback and waits for it.
async fn answer<T: Send + 'static>(
    receiver: oneshot::Receiver<Result<T, LinkError>>,
) -> Result<T, HostError> {
    answer_within(ANSWER_TIME_MAX, receiver).await
}

async fn answer_within<T: Send + 'static>(
    limit: Duration,
    receiver: oneshot::Receiver<Result<T, LinkError>>,
) -> Result<T, HostError> {
    match timeout(limit, receiver).await {
        Ok(Ok(outcome)) => outcome.map_err(host_error),
        Ok(Err(_dropped)) => Err(HostError::Gone),
        Err(_elapsed) => Err(HostError::Gone),
    }
}

/// A program that prints a credential has ten seconds.
const CREDENTIAL_TIME_MAX: Duration = AWAY_MAX.saturating_add(Duration::from_secs(15));

/// A backend's secret, by its configured name.
pub(super) fn credential(link: &NodeLink, name: &str) -> Answer<Secret> {
    let (sender, receiver) = oneshot::channel();
    link.credential(name, move |outcome| {
        let _gone = sender.send(outcome.map(Secret::new));
    });
    Box::pin(answer_within(CREDENTIAL_TIME_MAX, receiver))
}

/// The answer of a container runtime, to read from.
pub(super) async fn runtime(
    link: &NodeLink,
    name: &str,
    ask: RuntimeAsk,
) -> Result<pipe::Receiver, String> {
    let (sender, receiver) = oneshot::channel();
    link.runtime(name, ask, move |outcome| {
        let _gone = sender.send(outcome);
    });
    let fd = answer(receiver).await.map_err(|error| error.to_string())?;
    pipe::Receiver::from_owned_fd(fd).map_err(|error| error.to_string())
}

/// What proves a workload.
pub(super) fn assertion(link: &NodeLink, workload: &str, pod: Option<PodAsk>) -> Answer<Secret> {
    let (sender, receiver) = oneshot::channel();
    let pod = pod.map(|pod| PodToken {
        member: pod.uid,
        volume: pod.volume,
    });
    link.token(workload, pod, move |outcome| {
        let _gone = sender.send(outcome.map(Secret::new));
    });
    Box::pin(answer(receiver))
}

impl Host for BrokerHost {
    fn upstream(&self, netns: NetnsCookie, ipv6: bool) -> Answer<OwnedFd> {
        let (sender, receiver) = oneshot::channel();
        self.link.upstream(netns.0, ipv6, move |outcome| {
            // The asker may have given up.
            let _gone = sender.send(outcome);
        });
        Box::pin(answer(receiver))
    }

    fn enrol(&self, workload: &str, pid: u32) -> Answer<u64> {
        let (sender, receiver) = oneshot::channel();
        self.link.enrol(workload, pid, move |outcome| {
            let _gone = sender.send(outcome);
        });
        Box::pin(answer(receiver))
    }

    fn assertion(&self, workload: &str, pod: Option<PodAsk>) -> Answer<Secret> {
        assertion(&self.link, workload, pod)
    }

    fn pod(&self, cgroup: CgroupId) -> Answer<Option<String>> {
        let (sender, receiver) = oneshot::channel();
        self.link.member(cgroup.0, move |outcome| {
            let _gone = sender.send(outcome);
        });
        Box::pin(answer(receiver))
    }

    fn speaker(&self, socket: SocketCookie) -> Option<NewSpeaker> {
        let speakers = self.speakers.as_ref()?;
        match speakers.last(socket.0) {
            Ok(found) => found.map(|(id, uid, since_ns)| NewSpeaker {
                process: ProcessAsk {
                    pid: id.pid,
                    start_boottime_ns: id.start_boottime_ns,
                    at_ktime_ns: since_ns,
                    cgroup_id: 0,
                },
                uid,
            }),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say who speaks");
                None
            }
        }
    }

    fn hand_over(&self, moving: Moving) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        let ticket = match handed_over(moving) {
            Ok((session, ticket)) => {
                self.link.hand_over(session, move |outcome| {
                    let _gone = sender.send(outcome);
                });
                ticket
            }
            Err(error) => {
                let refused = HostError::Refused(error.to_string());
                return Box::pin(async { Err(refused) });
            }
        };
        Box::pin(async move {
            match answer(receiver).await {
                // It may have arrived all the same: whoever has the ticket has the session.
                Err(error) if claim(&ticket) => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }

    fn flow_opened(&self, note: FlowNote) {
        self.link.flow_opened(weir_broker::FlowNote {
            session: format!("{:032x}", note.session.0),
            netns: note.netns.0,
            client: note.client,
            upstream: note.upstream,
            workload: note.workload.to_string(),
            principal: note.principal.to_string(),
        });
    }

    fn flow_closed(&self, session: SessionId) {
        self.link.flow_closed(format!("{:032x}", session.0));
    }

    fn flow_moved(&self, session: SessionId) {
        self.link.flow_moved(&format!("{:032x}", session.0));
    }

    fn pass_cancel(&self, key: &CancelKey, workload: &str) {
        let passed = Passed::Cancel {
            pid: key.pid,
            secret: key.secret.to_vec(),
            workload: workload.to_owned(),
        };
        // Usually there is nobody else.
        self.link.pass(passed, |_outcome| {});
    }

    fn process(&self, ask: ProcessAsk) -> Answer<ProcessEvidence> {
        let (sender, receiver) = oneshot::channel();
        let arguments = Arc::clone(&self.arguments);
        self.link.process(ask, move |outcome| {
            let _gone = sender.send(outcome.map(|report| evidence(report, &arguments)));
        });
        Box::pin(answer(receiver))
    }
}

fn evidence(report: ProcessReport, arguments: &Arguments) -> ProcessEvidence {
    ProcessEvidence {
        pid: report.pid,
        ppid: report.ppid,
        uid: report.uid,
        comm: report.comm,
        exe: report.exe,
        exe_id: report.exe_id,
        exe_sha256: report.exe_sha256,
        container: report.container,
        pod: report.pod,
        lineage: report.lineage,
        argv: arguments.hide(&report.argv),
        parents: report.parents,
        cgroup_path: report.cgroup_path,
        netns_inode: report.netns_inode,
    }
}
