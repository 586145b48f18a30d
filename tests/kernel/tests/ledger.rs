//! Every connect that the kernel saw is served, abandoned or in flight, each counted on its own;
//! refusals are counted by their reason.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use weir_kernel_tests::lab::{FIRST_PORT, Lab, SERVER4, count_of};
use weir_kernel_tests::until;

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");
const PROTECTED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER4), FIRST_PORT);

/// Numbers of workload `a`.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    seen: u64,
    missed: u64,
    taken: u64,
    abandoned: u64,
    pending: u64,
    queued: u64,
    /// By the connect hook, for comparison.
    redirected: u64,
}

impl Sum {
    fn of(ledger: &Value) -> Self {
        let classes = ledger.pointer("/report/classes").unwrap();
        let mut classes = classes.as_array().unwrap().iter();
        let class = classes.find(|class| class["workload"] == "a").unwrap();
        let number = |path: &str| class.pointer(path).and_then(Value::as_u64).unwrap();
        Self {
            seen: number("/seen"),
            missed: number("/missed"),
            taken: ledger["taken"]["a"].as_u64().unwrap_or(0),
            abandoned: number("/abandoned/1"),
            pending: number("/pending/1"),
            queued: number("/queued"),
            redirected: number("/redirected"),
        }
    }

    fn adds_up(&self) -> bool {
        self.seen == self.taken + self.abandoned + self.pending + self.queued
    }
}

/// Waits until nothing is under way and all of it is accounted for.
fn settled(lab: &mut Lab) -> Sum {
    let mut last = None;
    let found = until(Duration::from_secs(5), || {
        let sum = Sum::of(&lab.ledger());
        let done = sum.adds_up() && sum.pending == 0 && sum.queued == 0;
        last = Some(sum);
        done.then_some(())
    });
    assert!(found.is_some(), "does not add up: {last:?}");
    last.unwrap()
}

#[test]
fn a_thousand_mixed_connects_add_up() {
    let mut lab = Lab::new(BINARY);
    lab.start_broker();
    lab.start_node();
    let said = lab.probe(("a", "a"), "mixed", PROTECTED, None);
    assert_eq!(
        said, "said served=250 left=500 failed=0 refused=250",
        "the control itself"
    );
    let sum = settled(&mut lab);
    assert_eq!(
        (sum.seen, sum.redirected, sum.missed),
        (750, 750, 0),
        "{sum:?}"
    );
    assert!(sum.taken >= 250, "{sum:?}");
    let counts = lab.counts();
    assert_eq!(count_of(&counts, "datagram"), 250);

    // Without a heartbeat: refused by reason, and nothing is seen to leave.
    lab.node.as_mut().unwrap().ask("silent", "SILENT");
    let refused = until(Duration::from_secs(5), || {
        let said = lab.probe(("a", "a"), "reach", PROTECTED, None);
        said.starts_with("failed 111").then_some(())
    });
    assert!(refused.is_some(), "never refused");
    let before = settled(&mut lab);
    let refusals = count_of(&lab.counts(), "no_heartbeat");
    let said = lab.probe(("a", "a"), "mixed", PROTECTED, None);
    assert_eq!(said, "said served=0 left=0 failed=750 refused=250");
    assert_eq!(settled(&mut lab), before);
    assert_eq!(count_of(&lab.counts(), "no_heartbeat"), refusals + 750);
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

#[test]
fn what_waits_while_the_node_is_stopped_is_in_flight() {
    let mut lab = Lab::new(BINARY);
    lab.start_broker();
    lab.start_node();
    let pid = lab.node.as_ref().unwrap().child.id();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    let mut child = lab.probe_started(("a", "a"), "queue", PROTECTED);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "STARTED");
    // Within the deadline of its heartbeat: a stopped node is refused soon.
    kill(pid, Signal::SIGSTOP).unwrap();
    writeln!(child.stdin.as_mut().unwrap()).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "QUEUED");
    // The counters live in the kernel: another node finds what waits, and takes it.
    kill(pid, Signal::SIGKILL).unwrap();
    lab.node = None;
    lab.start_node();
    let sum = settled(&mut lab);
    assert_eq!((sum.seen, sum.taken), (5, 5), "{sum:?}");
    drop(child.stdin.take());
    child.wait().unwrap();
}
