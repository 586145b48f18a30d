//! What Weir's own objects are worth: listeners nobody else reaches, refusal when broker or node is
//! gone, a take-over without a gap, traffic that is left alone, and nothing left at the end.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the wall clock, with limits"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir_kernel_tests::lab::{FIRST_PORT, Lab, OPEN_PORT, SERVER4, SERVER6, count_of};
use weir_kernel_tests::until;

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");
const PROTECTED4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER4), FIRST_PORT);
const PROTECTED6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(SERVER6), FIRST_PORT);
const OPEN4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(SERVER4), OPEN_PORT);
const OPEN6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(SERVER6), OPEN_PORT);
const SECOND: Duration = Duration::from_secs(1);
/// How long a heartbeat is good for.
const DEADLINE: Duration = Duration::from_millis(500);

fn up() -> Lab {
    let mut lab = Lab::new(BINARY);
    lab.start_broker();
    lab.start_node();
    lab
}

#[test]
fn listeners_serve_nobody_but_redirected_sockets() {
    let mut lab = up();
    let (v4, v6) = (lab.listener("a", false), lab.listener("a", true));
    let port4 = v4.port();
    let mapped = SocketAddr::new(
        std::net::Ipv4Addr::new(10, 99, 0, 21)
            .to_ipv6_mapped()
            .into(),
        port4,
    );
    let loopback = SocketAddr::from(([127, 0, 0, 1], port4));
    let zero = SocketAddr::from(([0, 0, 0, 0], port4));
    let loopback6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], v6.port()));
    let pods = [
        ("a", "a"),
        ("b", "b"),
        ("u", "u"),
        ("b", "a"),
        ("", "a"),
        ("", "u"),
    ];
    for to in [v4, v6, mapped, loopback, zero, loopback6] {
        for (cgroup, netns) in pods {
            let said = lab.probe((cgroup, netns), "reach", to, None);
            assert!(
                said.starts_with("failed"),
                "{cgroup}/{netns} to {to}: {said}"
            );
        }
    }
    let counts = lab.counts();
    assert!(count_of(&counts, "direct_to_listener") >= 3, "{counts}");
    assert!(count_of(&counts, "orphaned") >= 3, "{counts}");

    let any4 = SocketAddr::from(([0, 0, 0, 0], port4));
    let any6 = SocketAddr::from(([0; 8], v6.port()));
    for kind in ["bind", "bind_reuse_port", "bind_reuse_address"] {
        for at in [v4, v6, any4, any6] {
            let said = lab.probe(("a", "a"), kind, at, None);
            assert!(said.starts_with("failed 1 "), "{kind} at {at}: {said}");
        }
    }
    // As a source port the listener's own is refused as well.
    let said = lab.probe(("a", "a"), "reach_from", PROTECTED4, Some(v4));
    assert!(said.starts_with("failed 1 "), "{said}");
    assert_eq!(count_of(&lab.counts(), "bind_listener"), 13);

    // An abandoned flow gives no origin to whoever comes from the same port.
    let said = lab.probe(("a", "a"), "forge", loopback, Some(PROTECTED4));
    assert!(said.starts_with("failed"), "a forged origin: {said}");
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

#[test]
fn governed_processes_in_other_namespaces_are_refused() {
    let mut lab = up();
    for ((cgroup, netns), reason) in [
        (("a", "u"), "no_listener"),
        (("u", "u"), "no_listener"),
        (("b", "a"), "wrong_namespace"),
        (("u", "a"), "redirected"),
    ] {
        let before = lab.counts();
        for to in [PROTECTED4, PROTECTED6] {
            let said = lab.probe((cgroup, netns), "reach", to, None);
            let served = said.starts_with("said weir");
            assert_eq!(
                served,
                reason == "redirected",
                "{cgroup} in {netns}: {said}"
            );
        }
        let after = lab.counts();
        let rise = count_of(&after, reason) - count_of(&before, reason);
        assert_eq!(rise, 2, "{cgroup} in {netns}: {after}");
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

fn untouched(lab: &Lab, when: &str) {
    let a = ("a", "a");
    for (kind, to, wanted) in [
        ("reach", OPEN4, "said server"),
        ("reach", OPEN6, "said server"),
        ("udp", OPEN4, "said sent"),
        ("udp", OPEN6, "said sent"),
        ("ping", OPEN4, "said answered"),
        ("filter", OPEN4, "said server"),
    ] {
        let said = lab.probe(a, kind, to, None);
        assert!(said.starts_with(wanted), "{when}: {kind} {to}: {said}");
    }
    for mut to in [PROTECTED4, PROTECTED6] {
        // Not the port whose packets are counted.
        to.set_port(FIRST_PORT + 1);
        let said = lab.probe(("", "u"), "reach", to, None);
        assert!(
            said.starts_with("said server"),
            "{when}: a stranger is touched: {said}"
        );
    }
}

#[test]
fn other_traffic_is_left_alone_and_uninstall_leaves_nothing() {
    let mut lab = Lab::new(BINARY);
    untouched(&lab, "without Weir");
    lab.start_broker();
    lab.start_node();
    untouched(&lab, "under Weir");
    let said = lab.probe(("a", "a"), "back", PROTECTED4, Some(OPEN4));
    assert!(
        said.ends_with(&format!(" peer={OPEN4}")),
        "a stale name: {said}"
    );
    let said = lab.probe(("a", "a"), "back", PROTECTED6, Some(OPEN6));
    assert!(
        said.ends_with(&format!(" peer={OPEN6}")),
        "a stale name: {said}"
    );
    lab.node.as_mut().unwrap().kill();
    untouched(&lab, "without a node");
    lab.broker.as_mut().unwrap().kill();
    untouched(&lab, "without a broker");

    lab.uninstall();
    assert!(!lab.pins.exists());
    untouched(&lab, "after uninstall");
    // What only a hook or a device's list could still refuse.
    for name in [
        "connect_v4",
        "connect_v6",
        "udp_sendto_v4",
        "raw_tcp_v4",
        "packet_syn_v4",
        "xdp_v4",
    ] {
        // The kernel lets go of links a moment after their pins are gone.
        let mut said = String::new();
        let free = until(SECOND * 10, || {
            let before = lab.seen.at(FIRST_PORT);
            said = lab.attempt(("a", "a"), name, FIRST_PORT);
            let arrived = || (lab.seen.at(FIRST_PORT) > before).then_some(());
            let through = said.starts_with("said") && until(SECOND, arrived).is_some();
            through.then_some(())
        });
        assert!(free.is_some(), "{name} is still held back: {said}");
    }
}

#[test]
fn connections_older_than_weir_carry_nothing_more() {
    let mut lab = Lab::new(BINARY);
    for guarded in [false, true] {
        for to in [PROTECTED4, PROTECTED6] {
            let first = lab.seen.at(FIRST_PORT);
            let held = lab.probe_started(("a", "a"), "hold", to);
            // SYN, ACK, and the acknowledgement of the greeting and of the server's end.
            let open = until(SECOND, || {
                (lab.seen.at(FIRST_PORT) > first + 2).then_some(())
            });
            assert!(open.is_some(), "never connected");
            std::thread::sleep(Duration::from_millis(200));
            if guarded {
                lab.start_broker();
            }
            let before = lab.seen.at(FIRST_PORT);
            let said = lab.ended(held);
            let arrived = || (lab.seen.at(FIRST_PORT) > before).then_some(());
            let more = until(SECOND / 2, arrived).is_some();
            assert_eq!(more, !guarded, "{to}: {said}");
            lab.uninstall();
            // The kernel lets go of links a moment after their pins are gone.
            let free = until(SECOND, || {
                let said = lab.probe(("a", "a"), "reach", to, None);
                said.starts_with("said server").then_some(())
            });
            assert!(free.is_some(), "still guarded after uninstall");
        }
    }
}

#[test]
fn a_stopped_node_or_broker_is_refused_within_the_deadline() {
    let lab = up();
    for role in [&lab.node, &lab.broker] {
        let pid = role.as_ref().unwrap().child.id();
        stop_for_a_while(&lab, Pid::from_raw(i32::try_from(pid).unwrap()));
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

fn stop_for_a_while(lab: &Lab, pid: Pid) {
    let said = lab.probe(("a", "a"), "reach", PROTECTED4, None);
    assert!(said.starts_with("said weir"), "{said}");
    kill(pid, Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let mut last = Duration::ZERO;
    let refused = until(4 * SECOND, || {
        let begun = stopped.elapsed();
        let said = lab.probe(("a", "a"), "reach", PROTECTED4, None);
        assert!(!said.starts_with("said server"), "{said}");
        let refused = said.starts_with("failed 111");
        last = if refused { last } else { begun };
        refused.then_some(())
    });
    untouched(lab, "without a heartbeat");
    kill(pid, Signal::SIGCONT).unwrap();
    // However slow the machine is: nothing that began behind the deadline is let through.
    assert!(refused.is_some(), "never refused");
    assert!(last < DEADLINE, "let through after {last:?}");
    let back = until(4 * SECOND, || {
        let said = lab.probe(("a", "a"), "reach", PROTECTED4, None);
        said.starts_with("said weir").then_some(())
    });
    assert!(back.is_some(), "never served again");
}

#[test]
fn kills_and_restarts_never_open_the_way() {
    let mut lab = up();
    let loops = [PROTECTED4, PROTECTED6].map(|to| lab.probe_started(("a", "a"), "loop", to));
    for round in 0..3 {
        // Both orders: broker first, node first.
        if round % 2 == 0 {
            lab.broker = None;
            lab.node = None;
        } else {
            lab.node = None;
            lab.broker = None;
        }
        let said = lab.probe(("a", "a"), "reach", PROTECTED4, None);
        assert!(said.starts_with("failed 111"), "without a broker: {said}");
        lab.start_broker();
        lab.start_node();
        let served = until(2 * SECOND, || {
            let said = lab.probe(("a", "a"), "reach", PROTECTED6, None);
            said.starts_with("said weir").then_some(())
        });
        assert!(served.is_some(), "not served after a restart");
        // A tcx link is one of the pins: frames are still dropped after the take-over.
        let said = lab.attempt(("a", "a"), "packet_syn_v4", FIRST_PORT);
        assert!(said.starts_with("failed"), "{said}");
    }
    for child in loops {
        let said = lab.ended(child);
        assert!(
            said.contains("server=0") && !said.contains("weir=0"),
            "{said}"
        );
        weir_kernel_tests::roles::say(&said);
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

/// Number behind `name=`.
fn number(said: &str, name: &str) -> u32 {
    let mut words = said.split(' ');
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Makes trouble again and again under at least 1,000 connects; what became of them.
fn connects_during(lab: &mut Lab, name: &str, trouble: impl Fn(&mut Lab)) -> String {
    let (mut said, mut all) = (String::new(), 0);
    for _ in 0..10 {
        let child = lab.probe_started(("a", "a"), "loop", PROTECTED4);
        for _ in 0..3 {
            trouble(lab);
        }
        said = lab.ended(child);
        assert_eq!(number(&said, "server"), 0, "{name}: {said}");
        all += number(&said, "weir") + number(&said, "refused");
        weir_kernel_tests::roles::say(&format!("{name}: {said}"));
        if all >= 1000 {
            return said;
        }
    }
    panic!("{name}: {all} connects only, at last {said}");
}

#[test]
fn a_thousand_connects_during_each_kind_of_trouble_reach_nobody_but_weir() {
    let mut lab = up();
    let wait = Duration::from_millis(700);
    connects_during(&mut lab, "SIGKILL", |lab| {
        lab.node = None;
        std::thread::sleep(wait / 4);
        lab.start_node();
    });
    connects_during(&mut lab, "SIGSTOP", |lab| {
        let node = lab.node.as_ref().expect("a node").child.id();
        let node = Pid::from_raw(i32::try_from(node).unwrap());
        kill(node, Signal::SIGSTOP).unwrap();
        std::thread::sleep(wait);
        kill(node, Signal::SIGCONT).unwrap();
        std::thread::sleep(wait / 4);
    });
    connects_during(&mut lab, "SIGSTOP of the broker", |lab| {
        let broker = lab.broker.as_ref().expect("a broker").child.id();
        let broker = Pid::from_raw(i32::try_from(broker).unwrap());
        kill(broker, Signal::SIGSTOP).unwrap();
        std::thread::sleep(wait);
        kill(broker, Signal::SIGCONT).unwrap();
        std::thread::sleep(wait / 4);
    });
    connects_during(&mut lab, "restart", |lab| {
        lab.broker = None;
        lab.node = None;
        lab.start_broker();
        lab.start_node();
    });
    for (name, trouble) in [
        ("restart of the broker", Lab::restart_broker as fn(&mut Lab)),
        ("upgrade", Lab::upgrade_node),
    ] {
        let said = connects_during(&mut lab, name, trouble);
        let failed = number(&said, "refused") + number(&said, "other");
        assert!(failed == 0 || !lab.restarts_were_quick(), "{name}: {said}");
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}

#[test]
fn namespaces_that_come_and_go_are_never_unguarded() {
    let mut lab = Lab::new(BINARY);
    lab.add_wanderer();
    lab.start_broker();
    lab.start_node();
    let mut served = 0;
    for round in 0..50_u8 {
        let netns = lab.wander(100 + round);
        for name in ["connect_v4", "connect_v6", "udp_sendto_v4", "raw_tcp_v4"] {
            let said = lab.attempt(("c", &netns), name, FIRST_PORT);
            assert!(
                !said.contains("said server") && !said.contains("sent"),
                "{name}: {said}"
            );
        }
        if round % 10 == 0 {
            let to = PROTECTED4;
            let holder = lab.probe_started(("c", &netns), "loop", to);
            let found = until(3 * SECOND, || {
                let said = lab.attempt(("c", &netns), "connect_v4", FIRST_PORT);
                said.starts_with("said weir").then_some(())
            });
            served += u32::from(found.is_some());
            let said = lab.ended(holder);
            assert!(said.contains("server=0"), "{said}");
        }
        lab.leave(&netns);
    }
    assert_eq!(served, 5, "new namespaces are not served");
    let said = lab.probe(("a", "a"), "reach", PROTECTED4, None);
    assert!(said.starts_with("said weir"), "{said}");
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
}
