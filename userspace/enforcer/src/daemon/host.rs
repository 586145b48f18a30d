//! The broker as the relay sees it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};
use weir_broker::client::{LinkError, NodeLink};
use weir_broker::{Passed, ProcessReport};
use weir_govern::CancelKey;
use weir_identify::Secret;
use weir_model::addr::NetnsCookie;
use weir_model::flow::ProcessEvidence;
use weir_relay::{Answer, Host, HostError, Moving};

use super::upgrade::handed_over;

/// The broker answers from memory and short system calls; longer means that it hangs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A [`Host`] over the broker's socket.
pub(crate) struct BrokerHost {
    link: Arc<NodeLink>,
}

impl BrokerHost {
    pub(crate) const fn new(link: Arc<NodeLink>) -> Self {
        Self { link }
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
const CREDENTIAL_TIME_MAX: Duration = Duration::from_secs(15);

impl BrokerHost {
    /// A backend's secret, by its configured name.
    pub(crate) fn credential(&self, name: &str) -> Answer<Secret> {
        let (sender, receiver) = oneshot::channel();
        self.link.credential(name, move |outcome| {
            let _gone = sender.send(outcome.map(Secret::new));
        });
        Box::pin(answer_within(CREDENTIAL_TIME_MAX, receiver))
    }
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

    fn assertion(&self, workload: &str) -> Answer<Secret> {
        let (sender, receiver) = oneshot::channel();
        self.link.token(workload, move |outcome| {
            let _gone = sender.send(outcome.map(Secret::new));
        });
        Box::pin(answer(receiver))
    }

    fn hand_over(&self, moving: Moving) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        match handed_over(moving) {
            Ok(session) => self.link.hand_over(&session, move |outcome| {
                let _gone = sender.send(outcome);
            }),
            Err(error) => {
                let _gone = sender.send(Err(LinkError::Refused(error.to_string())));
            }
        }
        Box::pin(answer(receiver))
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

    fn process(&self, pid: u32, start_boottime_ns: u64) -> Answer<ProcessEvidence> {
        let (sender, receiver) = oneshot::channel();
        self.link.process(pid, start_boottime_ns, move |outcome| {
            let _gone = sender.send(outcome.map(evidence));
        });
        Box::pin(answer(receiver))
    }
}

fn evidence(report: ProcessReport) -> ProcessEvidence {
    ProcessEvidence {
        pid: report.pid,
        ppid: report.ppid,
        uid: report.uid,
        comm: report.comm,
        exe: report.exe,
        exe_id: report.exe_id,
        argv: report.argv,
        parents: report.parents,
        cgroup_path: report.cgroup_path,
        netns_inode: report.netns_inode,
    }
}
