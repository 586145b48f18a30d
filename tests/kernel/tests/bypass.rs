//! Every recipe three times: without Weir, where it has to work; under Weir; and under Weir without
//! a heartbeat. The server's packets are the proof, our counters the reason.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use weir_kernel_tests::lab::{FIRST_PORT, Lab, PORTS, SERVER4, SERVER6, count_of};
use weir_kernel_tests::recipes::{Expect, Recipe, table};
use weir_kernel_tests::sniff::NO_PORT;
use weir_kernel_tests::{roles, until};

const BINARY: &str = env!("CARGO_BIN_EXE_weir-bypass");
/// Errors that say that this kernel does not have what the recipe needs.
const ABSENT: [i32; 5] = [
    38, // ENOSYS
    93, // EPROTONOSUPPORT
    94, // ESOCKTNOSUPPORT
    97, // EAFNOSUPPORT
    95, // EOPNOTSUPP
];
/// More absences than these would hide that nothing was tried.
const ABSENT_MAX: usize = 8;
const REASONS: [&str; 14] = [
    "no_heartbeat",
    "no_listener",
    "not_tcp",
    "direct_to_listener",
    "bind_listener",
    "datagram",
    "wrong_namespace",
    "no_storage",
    "raw_socket",
    "protocol",
    "cgroup_egress",
    "device_egress",
    "unparsable",
    "queue_bypass",
];

fn run(lab: &Lab, recipe: &Recipe, port: u16) -> String {
    lab.attempt(("a", "a"), recipe.name, port)
}

fn errno(text: &str) -> Option<i32> {
    text.strip_prefix("failed ")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

/// Packets so far to this port, or without any.
fn arrived(lab: &Lab, port: u16) -> u64 {
    lab.seen.at(port) + lab.seen.at(NO_PORT)
}

fn protected_packets(lab: &Lab) -> BTreeMap<u16, u64> {
    let mut all = lab.seen.all();
    all.retain(|port, _| *port == NO_PORT || (FIRST_PORT..FIRST_PORT + PORTS).contains(port));
    all
}

/// Until nothing has arrived for half a second: late packets of one phase are not the next one's.
fn settle(lab: &Lab) -> BTreeMap<u16, u64> {
    let mut before = protected_packets(lab);
    let mut quiet = 0;
    while quiet < 5 {
        std::thread::sleep(Duration::from_millis(100));
        let now = protected_packets(lab);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
    }
    before
}

fn reasons(counts: &Value) -> BTreeMap<&'static str, u64> {
    REASONS
        .iter()
        .map(|name| (*name, count_of(counts, name)))
        .collect()
}

fn risen(before: &Value, after: &Value) -> Vec<&'static str> {
    let (before, after) = (reasons(before), reasons(after));
    let names = REASONS
        .iter()
        .filter(|name| after.get(*name) > before.get(*name));
    names.copied().collect()
}

/// What a recipe did in one phase, and what is wrong with it.
struct Finding {
    text: String,
    wrong: Option<String>,
}

fn control(lab: &Lab, recipe: &Recipe, port: u16) -> Finding {
    let before = arrived(lab, port);
    let text = run(lab, recipe, port);
    let absent = errno(&text).is_some_and(|number| ABSENT.contains(&number));
    let impossible = recipe.expect == Expect::Impossible;
    if absent && !impossible {
        return Finding {
            text: format!("absent: {text}"),
            wrong: None,
        };
    }
    let reached = || (arrived(lab, port) > before).then_some(());
    let wrong = if impossible {
        (text.starts_with("said") || reached().is_some())
            .then(|| "a container's root can do this after all".to_owned())
    } else {
        let limit = Duration::from_millis(500);
        until(limit, reached)
            .is_none()
            .then(|| "does not work without Weir".to_owned())
    };
    Finding { text, wrong }
}

fn guarded(lab: &mut Lab, recipe: &Recipe, port: u16, silent: bool) -> Finding {
    let before = lab.counts();
    let packets = arrived(lab, port);
    let text = run(lab, recipe, port);
    let after = lab.counts();
    let risen = risen(&before, &after);
    if arrived(lab, port) > packets {
        return Finding {
            text,
            wrong: Some("BYPASS: packets reached the server".to_owned()),
        };
    }
    let answered = text.starts_with("said weir");
    let wrong = match recipe.expect {
        Expect::Redirected if silent => (answered || !risen.contains(&"no_heartbeat"))
            .then(|| format!("not refused without a heartbeat: {risen:?}")),
        Expect::Redirected => (!served_truly(&text, port)
            || count_of(&after, "redirected") == count_of(&before, "redirected"))
        .then(|| format!("not redirected truly: {risen:?}")),
        Expect::Refused(wanted) => {
            let ours = risen.iter().any(|name| wanted.contains(name));
            (!ours || text.starts_with("said")).then(|| format!("not refused by us: {risen:?}"))
        }
        Expect::Dropped(wanted) => {
            // A hook before the device's list may refuse already.
            let early = silent && risen.contains(&"no_heartbeat");
            let ours = early || risen.iter().any(|name| wanted.contains(name));
            (!ours || answered).then(|| format!("not dropped by us: {risen:?}"))
        }
        Expect::Impossible => text.starts_with("said").then(|| "it worked".to_owned()),
    };
    Finding {
        text: format!("{text} {risen:?}"),
        wrong,
    }
}

/// Weir answered, its origin is the true destination, and so is the peer's name.
fn served_truly(text: &str, port: u16) -> bool {
    let server = |addr: &str| match addr.parse::<SocketAddr>() {
        Ok(addr) => {
            let ip = addr.ip().to_canonical();
            addr.port() == port && (ip == IpAddr::V4(SERVER4) || ip == IpAddr::V6(SERVER6))
        }
        Err(_) => false,
    };
    let origin = text
        .strip_prefix("said weir ")
        .and_then(|rest| rest.split(' ').next());
    let peer = text.split("peer=").nth(1);
    origin.is_some_and(server) && peer.is_some_and(server)
}

/// What `getsockname` said.
fn own_name(text: &str) -> Option<&str> {
    text.split("self=").nth(1)?.split(' ').next()
}

/// Runs all; the lines of what is wrong.
fn phase(name: &str, mut one: impl FnMut(&Recipe, u16) -> Finding) -> (Vec<String>, Vec<String>) {
    let (mut wrong, mut absent) = (Vec::new(), Vec::new());
    for (recipe, port) in table().iter().zip(FIRST_PORT..) {
        let finding = one(recipe, port);
        let mark = if finding.wrong.is_some() {
            "WRONG"
        } else {
            "ok"
        };
        roles::say(&format!(
            "{name:8} {mark:5} {:26} {:?} | {}",
            recipe.name, recipe.expect, finding.text
        ));
        if let Some(what) = finding.wrong {
            wrong.push(format!(
                "{name}: {}: {what} ({})",
                recipe.name, finding.text
            ));
        }
        if finding.text.starts_with("absent") {
            absent.push(recipe.name.to_owned());
        }
    }
    (wrong, absent)
}

#[test]
fn no_recipe_reaches_the_server() {
    let mut lab = Lab::new(BINARY);
    assert!(table().len() >= 60 && table().len() < usize::from(PORTS));

    let mut names = BTreeMap::new();
    let (mut wrong, absent) = phase("control", |recipe, port| {
        let finding = control(&lab, recipe, port);
        names.insert(recipe.name, own_name(&finding.text).map(str::to_owned));
        finding
    });
    assert!(
        absent.len() <= ABSENT_MAX,
        "too much is absent here: {absent:?}"
    );
    let quiet = settle(&lab);

    lab.start_broker();
    lab.start_node();
    let (found, _) = phase("guarded", |recipe, port| {
        if absent.contains(&recipe.name.to_owned()) {
            return Finding {
                text: run(&lab, recipe, port),
                wrong: None,
            };
        }
        let mut finding = guarded(&mut lab, recipe, port, false);
        let own = own_name(&finding.text).map(str::to_owned);
        if recipe.expect == Expect::Redirected && names.get(recipe.name) != Some(&own) {
            let what = format!("getsockname differs: {own:?}");
            finding.wrong.get_or_insert(what);
        }
        finding
    });
    wrong.extend(found);
    let refusals = lab.refusals();
    // Of a packet the kernel does not know the process.
    for (reason, comm) in [
        ("raw_socket", "weir-bypass"),
        ("datagram", "weir-bypass"),
        ("not_tcp", "weir-bypass"),
        ("queue_bypass", "weir-bypass"),
        ("cgroup_egress", ""),
        ("device_egress", ""),
        ("unparsable", ""),
    ] {
        let named = refusals.iter().any(|refusal| {
            let is = |name, wanted| refusal.get(name).and_then(Value::as_str) == Some(wanted);
            is("reason", reason) && is("comm", comm) && is("workload", "a")
        });
        if !named {
            wrong.push(format!("no event of {comm:?} for {reason}"));
        }
    }

    lab.node.as_mut().unwrap().ask("silent", "SILENT");
    // Half a second of a heartbeat that is still good.
    std::thread::sleep(Duration::from_millis(700));
    let (found, _) = phase("silent", |recipe, port| {
        if absent.contains(&recipe.name.to_owned()) {
            return Finding {
                text: run(&lab, recipe, port),
                wrong: None,
            };
        }
        guarded(&mut lab, recipe, port, true)
    });
    wrong.extend(found);
    let missed = count_of(&lab.counts(), "missed");
    roles::say(&format!("ledger: {missed} missed; absent here: {absent:?}"));

    let after = settle(&lab);
    if after != quiet {
        wrong.push(format!(
            "packets at the server under Weir: {after:?} after {quiet:?}"
        ));
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
