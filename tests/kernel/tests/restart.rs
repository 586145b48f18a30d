//! The broker ends and comes again while the node lives: nobody is refused and nobody gets by; what
//! was true stays, what is not true any more goes, and a node that is dead as well is noticed.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the wall clock, with limits"
)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use weir_broker::client::AWAY_MAX;
use weir_broker::{MemberKind, MemberReport, World};
use weir_kernel_tests::lab::{FIRST_PORT, Lab, SERVER4, SERVER6};
use weir_kernel_tests::until;

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");
const PROTECTED4: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER4), FIRST_PORT);
const PROTECTED6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVER6), FIRST_PORT);
const SECOND: Duration = Duration::from_secs(1);
const A: (&str, &str) = ("a", "a");

fn up() -> Lab {
    let mut lab = Lab::new(BINARY);
    lab.start_broker();
    lab.start_node();
    lab
}

fn number(said: &str, name: &str) -> u32 {
    let mut words = said.split(' ');
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn says(lab: &Lab, place: (&str, &str), wanted: &str) {
    for to in [PROTECTED4, PROTECTED6] {
        let said = lab.probe(place, "reach", to, None);
        assert!(said.starts_with(wanted), "{place:?} to {to}: {said}");
    }
}

fn comes(lab: &Lab, place: (&str, &str), wanted: &str) {
    let mut last = String::new();
    let found = until(4 * SECOND, || {
        last = lab.probe(place, "reach", PROTECTED4, None);
        last.starts_with(wanted).then_some(())
    });
    assert!(found.is_some(), "{place:?}: {last}, not {wanted}");
}

#[test]
fn a_thousand_connects_during_restarts_of_the_broker_are_all_served() {
    let mut lab = up();
    let node = lab.node.as_ref().unwrap().child.id();
    let mut served = 0;
    for _ in 0..10 {
        let loops = [PROTECTED4, PROTECTED6].map(|to| lab.probe_started(A, "loop", to));
        for _ in 0..3 {
            lab.restart_broker();
        }
        let quick = lab.restarts_were_quick();
        for child in loops {
            let said = lab.ended(child);
            weir_kernel_tests::roles::say(&said);
            assert_eq!(number(&said, "server"), 0, "{said}");
            let failed = number(&said, "refused") + number(&said, "other");
            assert!(failed == 0 || !quick, "{said}");
            served += number(&said, "weir");
        }
        if served >= 1000 {
            break;
        }
    }
    assert!(served >= 1000, "{served} connects only");
    assert_eq!(lab.node.as_ref().unwrap().child.id(), node);
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
    // The next node follows under the broker that did not start this one.
    let child = lab.probe_started(A, "loop", PROTECTED4);
    lab.upgrade_node();
    let said = lab.ended(child);
    assert_eq!(
        number(&said, "refused") + number(&said, "other"),
        0,
        "{said}"
    );
    assert!(number(&said, "weir") > 0, "{said}");
}

#[test]
fn a_node_without_a_broker_is_believed_for_a_while_and_then_refused_until_one_comes() {
    let mut lab = up();
    let gone = Instant::now();
    lab.broker.as_mut().unwrap().kill();
    while gone.elapsed() < AWAY_MAX - 3 * SECOND {
        says(&lab, A, "said weir");
        std::thread::sleep(SECOND / 4);
    }
    let refused = until(6 * SECOND, || {
        let said = lab.probe(A, "reach", PROTECTED4, None);
        assert!(!said.starts_with("said server"), "{said}");
        said.starts_with("failed 111").then_some(())
    });
    assert!(refused.is_some(), "a node alone is believed for ever");
    lab.start_broker();
    lab.node.as_mut().unwrap().expect("BACK");
    comes(&lab, A, "said weir");
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

#[test]
fn a_node_that_stops_while_no_broker_is_there_is_refused_within_the_deadline() {
    let mut lab = up();
    lab.broker.as_mut().unwrap().kill();
    says(&lab, A, "said weir");
    let node = lab.node.as_ref().unwrap().child.id();
    let node = Pid::from_raw(i32::try_from(node).unwrap());
    kill(node, Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let mut last = Duration::ZERO;
    let refused = until(4 * SECOND, || {
        let begun = stopped.elapsed();
        let said = lab.probe(A, "reach", PROTECTED4, None);
        assert!(!said.starts_with("said server"), "{said}");
        let refused = said.starts_with("failed 111");
        last = if refused { last } else { begun };
        refused.then_some(())
    });
    // However slow the machine is: nothing that began behind the deadline is let through.
    assert!(refused.is_some(), "never refused");
    assert!(last < SECOND / 2, "let through after {last:?}");
    // A broker alone believes in no node.
    lab.start_broker();
    says(&lab, A, "failed 111");
    kill(node, Signal::SIGCONT).unwrap();
    comes(&lab, A, "said weir");
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

#[test]
fn there_is_one_broker_at_a_time() {
    let mut lab = up();
    let said = lab.second_broker();
    assert!(said.contains("another broker runs"), "{said}");
    says(&lab, A, "said weir");
    // The one that was turned away has changed nothing.
    lab.restart_broker();
    says(&lab, A, "said weir");
}

#[test]
fn a_workload_that_left_the_configuration_meanwhile_is_not_served() {
    let mut lab = up();
    says(&lab, A, "said weir");
    lab.change(|_lab, config| {
        let workloads = config["workloads"].as_array_mut().expect("a list");
        workloads.retain(|workload| workload["name"] != "a");
    });
    let loops = [PROTECTED4, PROTECTED6].map(|to| lab.probe_started(A, "loop", to));
    lab.restart_broker();
    says(&lab, A, "failed 111");
    // What is left has another number than before, and is what it was.
    comes(&lab, ("b", "b"), "said weir");
    for child in loops {
        let said = lab.ended(child);
        assert_eq!(number(&said, "server"), 0, "{said}");
        assert!(number(&said, "refused") > 0, "{said}");
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

fn uid(number: u8) -> String {
    format!("0f5b1a3c-1111-4222-8333-44445555661{number}")
}

fn pod_cgroup(number: u8) -> String {
    let escaped = uid(number).replace('-', "_");
    let slice = format!("kubepods-burstable-pod{escaped}.slice");
    let id = "ab".repeat(32);
    format!("kubepods.slice/kubepods-burstable.slice/{slice}/cri-containerd-{id}.scope")
}

fn member(number: u8, workload: Option<&str>) -> World {
    World::Member(MemberReport {
        id: uid(number),
        kind: MemberKind::Pod {
            uid: uid(number),
            containers: Vec::new(),
        },
        workload: workload.map(ToOwned::to_owned),
    })
}

#[test]
fn pods_are_known_to_the_next_broker_as_the_node_knows_them() {
    let mut lab = Lab::new(BINARY);
    lab.change(|lab, config| {
        let workloads = config["workloads"].as_array_mut().expect("a list");
        workloads.push(json!({ "name": "p" }));
        config["pods_root"] = Value::from(lab.governed(""));
    });
    for number in 0..3 {
        lab.make_cgroup(&pod_cgroup(number));
    }
    lab.start_broker();
    lab.start_node();
    let spaces = [60, 61, 62].map(|host| lab.wander(host));
    let cgroups = [0, 1, 2].map(pod_cgroup);
    let place = |index: usize| (cgroups[index].as_str(), spaces[index].as_str());
    for (number, workload) in [(0, Some("p")), (1, None), (2, None)] {
        assert_eq!(lab.tell(&member(number, workload)), "");
    }
    assert_eq!(lab.tell(&World::MembersComplete), "");
    comes(&lab, place(0), "said weir");
    comes(&lab, place(1), "said server");
    comes(&lab, place(2), "said server");
    let before = lab.seen.at(FIRST_PORT);
    let governed = lab.probe_started(place(0), "loop", PROTECTED4);
    let exempt = lab.probe_started(place(1), "loop", PROTECTED6);
    for _ in 0..3 {
        lab.restart_broker();
    }
    let quick = lab.restarts_were_quick();
    let said = lab.ended(governed);
    assert_eq!(number(&said, "server"), 0, "governed: {said}");
    let failed = number(&said, "refused") + number(&said, "other");
    assert!(failed == 0 || !quick, "governed: {said}");
    // After a while without a broker that knows it, nobody's pod is an unknown one.
    let said = lab.ended(exempt);
    assert!(number(&said, "refused") == 0 || !quick, "exempt: {said}");
    for bad in ["weir", "other"] {
        assert_eq!(number(&said, bad), 0, "exempt: {said}");
    }
    assert!(
        lab.seen.at(FIRST_PORT) > before,
        "the exempt pod is counted"
    );
    // What changes while no broker is there is told to the next one.
    lab.broker.as_mut().unwrap().kill();
    let node = lab.node.as_mut().unwrap();
    node.expect("AWAY");
    node.say(&json!(member(1, Some("p"))).to_string());
    node.say(&json!(World::MemberGone { id: uid(2) }).to_string());
    lab.start_broker();
    lab.node.as_mut().unwrap().expect("TOLD");
    lab.node.as_mut().unwrap().expect("TOLD");
    comes(&lab, place(0), "said weir");
    comes(&lab, place(1), "said weir");
    comes(&lab, place(2), "failed 111");
}
