//! Governed sets: pods that are known, not known and exempt, names that are forged, lists of egress,
//! addresses that are found, workloads on the host's network, namespaces that go.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use weir_broker::{Found, MemberKind, MemberReport, World};
use weir_kernel_tests::lab::{FIRST_PORT, Lab, OPEN_PORT, SERVER4, SERVER6, count_of};
use weir_kernel_tests::until;

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");
const SECOND: Duration = Duration::from_secs(1);
const PROTECTED4: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER4), FIRST_PORT);
const PROTECTED6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVER6), FIRST_PORT);
const OPEN4: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER4), OPEN_PORT);
const OPEN6: SocketAddr = SocketAddr::new(IpAddr::V6(SERVER6), OPEN_PORT);
/// The server's second addresses, which nothing protects.
const OTHER4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 11)), OPEN_PORT);
const OTHER6: SocketAddr = SocketAddr::new(
    IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x11)),
    OPEN_PORT,
);

fn uid(number: u8) -> String {
    format!("0f5b1a3c-1111-4222-8333-44445555660{number}")
}

/// As the kubelet makes it with the systemd driver, the container's own cgroup below it.
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

fn push(config: &mut Value, name: &str, value: Value) {
    let list = config.get_mut(name).and_then(Value::as_array_mut);
    list.expect("a list").push(value);
}

/// A workload `p` of pods, whose kubelet keeps its cgroups below the governed root.
fn with_pods() -> Lab {
    let mut lab = Lab::new(BINARY);
    lab.change(|lab, config| {
        push(config, "workloads", json!({ "name": "p" }));
        config["pods_root"] = json!(lab.governed(""));
        config["exempt"] = json!([lab.governed("x")]);
        config["guard_ms"] = json!(500);
    });
    for number in 0..4 {
        lab.make_cgroup(&pod_cgroup(number));
    }
    lab.start_broker();
    lab.start_node();
    lab
}

/// Until the probe says it.
fn comes(lab: &Lab, place: (&str, &str), to: SocketAddr, wanted: &str) {
    let mut last = String::new();
    let found = until(3 * SECOND, || {
        last = lab.probe(place, "reach", to, None);
        last.starts_with(wanted).then_some(())
    });
    assert!(found.is_some(), "{place:?} to {to}: {last}, not {wanted}");
}

fn says(lab: &Lab, place: (&str, &str), (kind, to): (&str, SocketAddr), wanted: &str) {
    let said = lab.probe(place, kind, to, None);
    assert!(said.starts_with(wanted), "{place:?} {kind} {to}: {said}");
}

#[test]
fn a_pod_is_refused_until_it_is_known_then_governed_or_left_alone() {
    let mut lab = with_pods();
    let (one, two) = (lab.wander(60), lab.wander(61));
    let (first, second) = (pod_cgroup(0), pod_cgroup(1));
    let (governed, exempt) = (
        (first.as_str(), one.as_str()),
        (second.as_str(), two.as_str()),
    );
    for place in [governed, exempt] {
        for to in [PROTECTED4, PROTECTED6] {
            says(&lab, place, ("reach", to), "failed 111");
        }
        says(&lab, place, ("reach", OPEN4), "said server");
        says(&lab, place, ("raw", OPEN4), "failed 1 ");
    }
    assert_eq!(
        lab.seen.at(FIRST_PORT),
        0,
        "an unknown pod reached the server"
    );

    assert_eq!(lab.tell(&member(0, Some("p"))), "");
    assert_eq!(lab.tell(&member(1, None)), "");
    for to in [PROTECTED4, PROTECTED6] {
        comes(&lab, governed, to, "said weir");
    }
    assert_eq!(
        lab.seen.at(FIRST_PORT),
        0,
        "a governed pod reached the server"
    );
    for to in [PROTECTED4, PROTECTED6] {
        comes(&lab, exempt, to, "said server");
    }
    for (kind, to) in [("udp", PROTECTED4), ("raw", OPEN4), ("ping", OPEN4)] {
        says(&lab, exempt, (kind, to), "said");
    }
    let counts = lab.counts();
    assert_eq!(
        count_of(&counts, "missed"),
        0,
        "exempt connects are not missed: {counts}"
    );

    // The same pod under other rules, and a pod that is gone.
    assert_eq!(lab.tell(&member(1, Some("p"))), "");
    comes(&lab, exempt, PROTECTED4, "said weir");
    assert_eq!(lab.tell(&member(1, None)), "");
    comes(&lab, exempt, PROTECTED4, "said server");
    assert_eq!(lab.tell(&World::MemberGone { id: uid(1) }), "");
    let refused = until(3 * SECOND, || {
        let said = lab.probe(exempt, "reach", PROTECTED4, None);
        (!said.starts_with("said server")).then_some(said)
    });
    assert!(refused.is_some(), "a pod that is gone stays exempt");
    // A node that does not tell of a pod any more: gone once it has told everything.
    lab.node = None;
    lab.start_node();
    comes(&lab, governed, PROTECTED4, "said weir");
    assert_eq!(lab.tell(&member(1, None)), "");
    assert_eq!(lab.tell(&World::MembersComplete), "");
    comes(&lab, exempt, PROTECTED4, "said server");
}

#[test]
fn an_exempt_cgroup_of_the_configuration_is_left_alone() {
    let lab = with_pods();
    lab.make_cgroup("x");
    let netns = lab.wander(70);
    comes(&lab, ("x", &netns), PROTECTED4, "said server");
    says(&lab, ("x", &netns), ("raw", OPEN4), "said made");
    says(&lab, ("u", &netns), ("reach", PROTECTED4), "failed 111");
}

#[test]
fn forged_names_and_claims_win_nothing() {
    let mut lab = with_pods();
    let netns = lab.wander(80);
    assert_eq!(lab.tell(&member(1, None)), "");
    // Another port: the last packets of this connection arrive whenever they do.
    let mut second = PROTECTED4;
    second.set_port(FIRST_PORT + 1);
    comes(&lab, (&pod_cgroup(1), &netns), second, "said server");
    // The exempt pod's path, made in a workload's own subtree.
    let before = lab.seen.at(FIRST_PORT);
    for root in ["a", "u"] {
        let forged = format!("{root}/{}", pod_cgroup(1));
        lab.make_cgroup(&forged);
        let escaped = uid(1).replace('-', "_");
        let shallow = format!("{root}/kubepods.slice/kubepods-pod{escaped}.slice");
        lab.make_cgroup(&shallow);
        for cgroup in [forged, shallow] {
            for _ in 0..20 {
                let said = lab.probe((&cgroup, &netns), "reach", PROTECTED4, None);
                assert!(!said.starts_with("said server"), "{cgroup}: {said}");
            }
        }
    }
    assert_eq!(
        lab.seen.at(FIRST_PORT),
        before,
        "a forged name reached the server"
    );
    // Names that no kubelet gives, and a workload that the configuration gives to a cgroup.
    for (uid, workload) in [("../../a", None), ("a", None), (uid(2).as_str(), Some("a"))] {
        let report = MemberReport {
            id: "x".to_owned(),
            kind: MemberKind::Pod {
                uid: uid.to_owned(),
                containers: Vec::new(),
            },
            workload: workload.map(ToOwned::to_owned),
        };
        assert_ne!(lab.tell(&World::Member(report)), "", "{uid} {workload:?}");
    }
    // Two that claim one cgroup differently: nobody's.
    let World::Member(mut twin) = member(1, Some("p")) else {
        panic!("a member");
    };
    twin.id = "twin".to_owned();
    assert_eq!(lab.tell(&World::Member(twin)), "");
    comes(&lab, (&pod_cgroup(1), &netns), PROTECTED4, "failed 111");
}

#[test]
fn a_listed_workload_reaches_its_list_and_its_targets() {
    let mut lab = Lab::new(BINARY);
    lab.change(|_, config| {
        let a = &mut config["workloads"][0];
        assert_eq!(a["name"], "a");
        a["allow"] = json!([
            { "net": SERVER4, "port": OPEN_PORT },
            { "net": SERVER6, "port": OPEN_PORT },
        ]);
    });
    lab.start_broker();
    lab.start_node();
    let (a, b) = (("a", "a"), ("b", "b"));
    let mapped = SocketAddr::new(
        IpAddr::V6(Ipv4Addr::new(10, 99, 0, 11).to_ipv6_mapped()),
        OPEN_PORT,
    );
    let scope = device_index(&lab, "b");
    let all_nodes: SocketAddr = format!("[ff02::1%{scope}]:9000").parse().unwrap();
    for (kind, to) in [
        ("reach", OPEN4),
        ("reach", OPEN6),
        ("udp", OPEN4),
        ("ping", OPEN4),
    ] {
        says(&lab, a, (kind, to), "said");
    }
    for to in [PROTECTED4, PROTECTED6] {
        says(&lab, a, ("reach", to), "said weir");
    }
    let unlisted = SocketAddr::new(IpAddr::V4(SERVER4), 9_999);
    for (kind, to) in [
        ("reach", OTHER4),
        ("reach", OTHER6),
        ("reach", mapped),
        ("reach", unlisted),
        ("udp", OTHER4),
        ("udp", OTHER6),
        ("udp", all_nodes),
        ("ping", OTHER4),
    ] {
        says(&lab, a, (kind, to), "failed");
        if kind != "reach" || to.port() == OPEN_PORT {
            says(&lab, b, (kind, to), "said");
        }
    }
    let counts = lab.counts();
    assert!(count_of(&counts, "unlisted") >= 7, "{counts}");
    let refusals = lab.refusals();
    let reasons = refusals.iter().map(|refusal| refusal["reason"].as_str());
    assert!(
        reasons.flatten().any(|reason| reason == "unlisted"),
        "{refusals:?}"
    );

    // Frames: dropped at the device unless they are on the list.
    for (place, port, arrives) in [(a, 9_998, false), (b, 9_997, true), (a, OPEN_PORT, true)] {
        let before = lab.seen.at(port);
        let said = lab.attempt(place, "packet_syn_v4", port);
        assert_eq!(
            said.starts_with("said"),
            arrives,
            "{place:?} to {port}: {said}"
        );
        let came = until(SECOND / 2, || (lab.seen.at(port) > before).then_some(()));
        assert_eq!(came.is_some(), arrives, "{place:?} to {port}");
    }
    // What comes from outside is answered.
    let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 21)), 7_000);
    let service = lab.probe_started(a, "serve", own);
    let greeted = until(3 * SECOND, || {
        let said = lab.probe(("", "u"), "reach", own, None);
        said.starts_with("said service").then_some(())
    });
    assert!(greeted.is_some(), "a listed workload cannot answer");
    let said = lab.ended(service);
    assert!(said.starts_with("said served"), "{said}");
    // A governed process that nobody claims may be a listed workload's that is not known yet.
    says(&lab, ("u", "u"), ("reach", OPEN4), "failed 111");
    named_lists(&mut lab);
}

/// What is allowed by name comes and goes.
fn named_lists(lab: &mut Lab) {
    let told = |found: Vec<Found>| World::Allowed {
        workload: "a".to_owned(),
        found,
        complete: true,
    };
    let place = Found {
        addr: OTHER4.ip(),
        port: OTHER4.port(),
    };
    assert_eq!(lab.tell(&told(vec![place])), "");
    says(lab, ("a", "a"), ("reach", OTHER4), "said server");
    assert_eq!(lab.tell(&told(Vec::new())), "");
    says(lab, ("a", "a"), ("reach", OTHER4), "failed 111");
    says(lab, ("a", "a"), ("reach", OPEN4), "said server");
}

#[test]
fn a_target_that_is_found_is_protected_from_then_on() {
    let mut lab = Lab::new(BINARY);
    lab.change(|_, config| config["found_targets"] = json!(["t"]));
    lab.start_broker();
    lab.start_node();
    let told = |addresses: &[SocketAddr], complete: bool| World::Target {
        name: "t".to_owned(),
        found: addresses
            .iter()
            .map(|to| Found {
                addr: to.ip(),
                port: to.port(),
            })
            .collect(),
        complete,
    };
    let a = ("a", "a");
    says(&lab, a, ("reach", OTHER4), "said server");
    assert_eq!(lab.tell(&told(&[OTHER4, OTHER6], true)), "");
    for to in [OTHER4, OTHER6, PROTECTED4] {
        says(&lab, a, ("reach", to), "said weir");
    }
    // An answer of DNS protects single servers only, and only what the configuration leaves open.
    for addr in [
        "0.0.0.0:0",
        "127.0.0.1:0",
        "[::]:0",
        "[fe80::1]:0",
        "224.0.0.1:0",
    ] {
        let addr: SocketAddr = addr.parse().expect("an address");
        assert_ne!(lab.tell(&told(&[addr], true)), "", "{addr}");
    }
    let mut stranger = told(&[OTHER4], true);
    if let World::Target { name, .. } = &mut stranger {
        "other".clone_into(name);
    }
    assert_ne!(lab.tell(&stranger), "");
    says(&lab, a, ("reach", OTHER4), "said weir");
    // Over a restart it stays protected until the new node has heard of all names.
    lab.node = None;
    lab.broker = None;
    lab.start_broker();
    says(&lab, a, ("reach", OTHER4), "failed 111");
    lab.start_node();
    assert_eq!(lab.tell(&told(&[OTHER6], false)), "");
    for to in [OTHER4, OTHER6] {
        says(&lab, a, ("reach", to), "said weir");
    }
    assert_eq!(lab.tell(&told(&[OTHER6], true)), "");
    says(&lab, a, ("reach", OTHER4), "said server");
    says(&lab, a, ("reach", OTHER6), "said weir");
}

#[test]
fn workloads_on_the_hosts_network_are_governed_and_nobody_else_there_is() {
    let mut lab = Lab::new(BINARY);
    // The broker's namespace is the host's.
    lab.set_host("u");
    lab.change(|lab, config| {
        for name in ["h", "i"] {
            let cgroup = lab.governed(name);
            push(
                config,
                "workloads",
                json!({ "name": name, "cgroup": cgroup }),
            );
        }
    });
    for name in ["h", "i"] {
        lab.make_cgroup(name);
    }
    lab.start_broker();
    lab.start_node();
    for name in ["h", "i"] {
        for to in [PROTECTED4, PROTECTED6] {
            comes(&lab, (name, "u"), to, "said weir");
        }
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
    // A governed process that nobody claims has no listener there.
    says(&lab, ("u", "u"), ("reach", PROTECTED4), "failed 111");
    let frames = |place: (&str, &str), port: u16| {
        let before = lab.seen.at(port);
        let _said = lab.attempt(place, "packet_syn_v4", port);
        until(SECOND / 2, || (lab.seen.at(port) > before).then_some(())).is_some()
    };
    assert!(
        !frames(("h", "u"), FIRST_PORT),
        "a frame passed the host's device"
    );
    let mut other = PROTECTED4;
    other.set_port(FIRST_PORT + 1);
    says(&lab, ("", "u"), ("reach", other), "said server");
    says(&lab, ("", "u"), ("udp", other), "said sent");
    says(&lab, ("h", "u"), ("reach", OPEN4), "said server");
    assert_eq!(count_of(&lab.counts(), "missed"), 0);
}

#[test]
fn a_namespace_that_goes_leaves_nothing_behind() {
    let mut lab = with_pods();
    assert_eq!(lab.tell(&member(0, Some("p"))), "");
    let before = pins(&lab);
    let netns = lab.wander(90);
    comes(&lab, (&pod_cgroup(0), &netns), PROTECTED4, "said weir");
    assert!(pins(&lab).len() > before.len(), "its device is not guarded");
    lab.leave(&netns);
    let gone = until(10 * SECOND, || (pins(&lab) == before).then_some(()));
    assert!(gone.is_some(), "left: {:?}, not {before:?}", pins(&lab));

    // The same while no broker is there: the next one sweeps.
    let netns = lab.wander(91);
    comes(&lab, (&pod_cgroup(0), &netns), PROTECTED4, "said weir");
    lab.node = None;
    lab.broker = None;
    lab.leave(&netns);
    assert!(pins(&lab).len() > before.len(), "the pin went by itself");
    lab.start_broker();
    let gone = until(10 * SECOND, || (pins(&lab) == before).then_some(()));
    assert!(gone.is_some(), "left: {:?}, not {before:?}", pins(&lab));
}

#[test]
fn addresses_that_come_after_the_first_process_are_listened_at() {
    let mut lab = with_pods();
    assert_eq!(lab.tell(&member(0, Some("p"))), "");
    let before = pins(&lab).len();
    let netns = lab.wander_bare(95);
    let pod = pod_cgroup(0);
    let place = (pod.as_str(), netns.as_str());
    let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_000);
    let mut first = lab.probe_started(place, "serve", loopback);
    let seen = until(3 * SECOND, || (pins(&lab).len() > before).then_some(()));
    assert!(seen.is_some(), "the broker never saw the namespace");
    // One family after the other, as container runtimes and IPv6 itself do it.
    for (address, to) in [("10.99.0.95/24", PROTECTED4), ("fd99::95/64", PROTECTED6)] {
        lab.address(&netns, address);
        comes(&lab, place, to, "said weir");
    }
    assert_eq!(lab.seen.at(FIRST_PORT), 0, "packets reached the server");
    first.kill().expect("the first process ends");
    first.wait().expect("the first process ends");
    lab.leave(&netns);
}

/// Number of a pod's device: where modules make devices of their own, it is not 2.
fn device_index(lab: &Lab, space: &str) -> u32 {
    let net = format!("--net={}", lab.space(space).display());
    let mut list = std::process::Command::new("nsenter");
    list.args([&net, "ip", "-o", "link", "show", "type", "veth"]);
    let output = list.output().expect("a list of devices");
    let text = String::from_utf8_lossy(&output.stdout);
    let (index, _) = text.split_once(':').expect("a device");
    index.trim().parse().expect("a number")
}

/// Pinned links of devices, and programs of filters.
fn pins(lab: &Lab) -> Vec<String> {
    let directory = lab.pins.join(format!("v{}", weir_kernel::ABI_VERSION));
    let entries = std::fs::read_dir(directory).expect("pins");
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("device_") || name.starts_with("clsact_"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_container_that_starts_is_guarded_within_a_moment() {
    let mut lab = with_pods();
    assert_eq!(lab.tell(&member(0, Some("p"))), "");
    let mut worst = 0;
    for round in 0..5 {
        let netns = lab.wander(100 + round);
        let said = lab.flood((&pod_cgroup(0), &netns), FIRST_PORT + u16::from(round));
        weir_kernel_tests::roles::say(&said);
        let last = said
            .rsplit_once("last_us=")
            .and_then(|(_, last)| last.parse().ok());
        worst = worst.max(last.expect("a number"));
        assert!(!said.contains("dropped=0 "), "never guarded: {said}");
        lab.leave(&netns);
    }
    // A look every second alone would be more than that; an emulated kernel takes half of it.
    assert!(worst < 800_000, "guarded only after {worst} µs");
}
