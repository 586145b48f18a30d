//! The allow-list on a device, on kernels with tcx and without: one and no more, back when it is
//! taken away, gone after `uninstall`.
#![forbid(unsafe_code)]

use std::process::Command;
use std::time::Duration;

use weir_kernel_tests::lab::{FIRST_PORT, Lab, count_of};
use weir_kernel_tests::until;

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");

fn up() -> Lab {
    let mut lab = Lab::new(BINARY);
    lab.start_broker();
    lab.start_node();
    lab
}

/// Whether it worked, and what it said, inside workload `a`'s namespace as the host's root.
fn tc(lab: &Lab, arguments: &str) -> (bool, String) {
    tc_words(lab, &arguments.split(' ').collect::<Vec<_>>())
}

fn tc_words(lab: &Lab, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("nsenter")
        .arg(format!("--net={}", lab.pod("a").netns.display()))
        .arg("tc")
        .args(arguments)
        .output()
        .expect("nsenter and tc are installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

fn has_tcx() -> bool {
    let probes = weir_kernel::probe();
    let tcx = probes.iter().find(|probe| probe.what == "tcx");
    tcx.expect("the probe says so or so").works
}

fn filters(lab: &Lab) -> usize {
    let (_, text) = tc(lab, "filter show dev eth0 egress");
    text.lines()
        .filter(|line| line.contains("weir_device"))
        .count()
}

/// A frame of a packet socket, which no hook but the device's sees, is dropped by it.
fn drops(lab: &mut Lab) -> bool {
    let before = count_of(&lab.counts(), "device_egress");
    let packets = lab.seen.at(FIRST_PORT);
    let said = lab.attempt(("a", "a"), "packet_syn_v4", FIRST_PORT);
    let counted = count_of(&lab.counts(), "device_egress") > before;
    said.starts_with("failed") && counted && lab.seen.at(FIRST_PORT) == packets
}

#[test]
fn restarts_leave_one_allow_list_and_uninstall_none() {
    let wanted = usize::from(!has_tcx());
    let mut lab = up();
    for round in 0..3 {
        assert_eq!(filters(&lab), wanted, "round {round}");
        assert!(drops(&mut lab), "round {round}");
        lab.node = None;
        lab.broker = None;
        // Without a broker it stands as well: the way is closed, and nobody counts aloud.
        let packets = lab.seen.at(FIRST_PORT);
        let said = lab.attempt(("a", "a"), "packet_syn_v4", FIRST_PORT);
        assert!(said.starts_with("failed"), "{said}");
        assert_eq!(lab.seen.at(FIRST_PORT), packets, "without a broker");
        lab.start_broker();
        lab.start_node();
    }
    lab.uninstall();
    let (_, text) = tc(&lab, "qdisc show dev eth0");
    assert!(!text.contains("clsact"), "{text}");
}

#[test]
fn an_allow_list_that_is_taken_away_comes_back() {
    let tcx = has_tcx();
    let mut lab = up();
    let (removed, _) = tc(&lab, "qdisc del dev eth0 clsact");
    assert_eq!(removed, !tcx, "a link cannot be taken away, a filter can");
    let back = until(Duration::from_secs(3), || drops(&mut lab).then_some(()));
    assert!(back.is_some(), "the device stays open");
    assert_eq!(filters(&lab), usize::from(!tcx));
}

#[test]
fn a_filter_that_goes_first_does_not_stay_first() {
    let tcx = has_tcx();
    let mut lab = up();
    assert!(drops(&mut lab));
    let (made, _) = tc(&lab, "qdisc add dev eth0 clsact");
    assert_eq!(made, tcx, "without tcx it is there already");
    // Takes every frame, which ends the walk through the filters.
    let mut words: Vec<&str> = "filter add dev eth0 egress prio 1 handle 2 bpf bytecode"
        .split(' ')
        .collect();
    words.push("1,6 0 0 4294967295,");
    let (added, _) = tc_words(&lab, &words);
    assert!(added, "the control case fails");
    let back = until(Duration::from_secs(3), || drops(&mut lab).then_some(()));
    assert!(back.is_some(), "the device stays open");
}

#[test]
fn a_discipline_of_somebody_else_stays() {
    let mut lab = Lab::new(BINARY);
    let (made, _) = tc(&lab, "qdisc add dev eth0 clsact");
    assert!(made);
    lab.start_broker();
    lab.start_node();
    assert!(drops(&mut lab));
    lab.uninstall();
    assert_eq!(filters(&lab), 0);
    let (_, text) = tc(&lab, "qdisc show dev eth0");
    assert!(text.contains("clsact"), "{text}");
}
