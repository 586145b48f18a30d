//! What a connect costs under Weir: the same calls by a governed client and by one that no hook of
//! Weir's sees, turn by turn, and the time that each program took, as the kernel measures it.
//!
//! The clients live in namespaces of one shape on one bridge. Nothing is compared with another run.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use serde_json::{Value, json};
use weir_kernel::{ProgramTime, measure, program_times};

use crate::calls::{self, Addr};
use crate::lab::{FIRST_PORT, Lab, OPEN_PORT, SERVER4, SERVER6};
use crate::role::Role;
use crate::roles::say;

/// Addresses of the server's that nothing protects.
const OTHER4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 11));
const OTHER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x11));
const SAME4: IpAddr = IpAddr::V4(SERVER4);
const SAME6: IpAddr = IpAddr::V6(SERVER6);

/// How the table calls it, what is done, and where.
const WORK: [(&str, &str, IpAddr, u16); 9] = [
    ("connect v4, other host", "connect", OTHER4, OPEN_PORT),
    ("connect v6, other host", "connect", OTHER6, OPEN_PORT),
    ("connect v4, other port", "connect", SAME4, OPEN_PORT),
    ("connect v6, other port", "connect", SAME6, OPEN_PORT),
    ("connect v4, protected", "connect", SAME4, FIRST_PORT),
    ("connect v6, protected", "connect", SAME6, FIRST_PORT),
    ("socket", "socket", OTHER4, OPEN_PORT),
    ("setsockopt", "option", OTHER4, OPEN_PORT),
    ("sendto v4, other host", "datagram", OTHER4, OPEN_PORT),
];

/// Rounds of both clients for all of [`WORK`], then once more under measurement; JSON on one line.
///
/// # Panics
/// The lab cannot be made.
pub fn compare(binary: &str, rounds: usize, count: usize) {
    let mut lab = Lab::new(binary);
    lab.start_broker();
    lab.start_node();
    let pod = lab.pod("a").clone();
    let place = |cgroup: String, name: &str| {
        let netns = lab.pod(name).netns.display().to_string();
        let mut client = Role::start(binary, &["connector", &cgroup, &netns]);
        client.expect("READY");
        client
    };
    let mut governed = place(pod.cgroup.display().to_string(), "a");
    let mut free = place(String::new(), "u");
    let mut results = Vec::new();
    for (name, kind, host, port) in WORK {
        let to = SocketAddr::new(host, port);
        let question = format!("{kind} {to} {count}");
        let (mut with, mut without) = (Vec::new(), Vec::new());
        // The first round fills caches.
        for round in 0..=rounds {
            let pair = [
                (&mut without, free.ask(&question, "NS")),
                (&mut with, governed.ask(&question, "NS")),
            ];
            for (samples, answer) in pair {
                if round > 0 {
                    samples.push(numbers(&answer));
                }
            }
        }
        let measuring = measure().expect("measuring needs root");
        let before = times(&lab);
        let _answer = governed.ask(&question, "NS");
        let after = times(&lab);
        drop(measuring);
        results.push(json!({
            "work": name, "without": without, "with": with,
            "programs": spent(&before, &after, count),
        }));
        say(&format!("AT {name}"));
    }
    let programs: Vec<Value> = times(&lab)
        .values()
        .map(|time| json!({ "program": time.name, "verified": time.verified }))
        .collect();
    say(&format!(
        "RESULT {}",
        json!({ "work": results, "programs": programs })
    ));
}

fn numbers(answer: &str) -> Vec<u64> {
    answer
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// By name; devices of several namespaces are one line.
fn times(lab: &Lab) -> BTreeMap<String, ProgramTime> {
    let mut found: BTreeMap<String, ProgramTime> = BTreeMap::new();
    for time in program_times(&lab.pins).expect("the pins are there") {
        match found.get_mut(&time.name) {
            Some(sum) => {
                sum.runs += time.runs;
                sum.ns += time.ns;
            }
            None => {
                found.insert(time.name.clone(), time);
            }
        }
    }
    found
}

fn spent(
    before: &BTreeMap<String, ProgramTime>,
    after: &BTreeMap<String, ProgramTime>,
    count: usize,
) -> Vec<Value> {
    let mut rows = Vec::new();
    for (name, now) in after {
        let then = before.get(name);
        let runs = now.runs - then.map_or(0, |time| time.runs);
        let ns = now.ns - then.map_or(0, |time| time.ns);
        // A heartbeat's or a neighbour's stray run is not what the work costs.
        if runs * 2 >= count as u64 {
            rows.push(json!({ "program": name, "runs": runs, "ns": ns }));
        }
    }
    rows
}

/// The client: reads `KIND ADDR COUNT`, answers with nanoseconds.
///
/// # Errors
/// A call failed: what is measured has to work.
pub fn client() -> io::Result<()> {
    say("READY");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, to, count] = words.as_slice() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let to: SocketAddr = to.parse().map_err(io::Error::other)?;
        let count: usize = count.parse().map_err(io::Error::other)?;
        let mut answer = String::from("NS");
        for _each in 0..count {
            let ns = once(kind, to)?;
            answer.push_str(&format!(" {ns}"));
        }
        say(&answer);
    }
    Ok(())
}

fn once(kind: &str, to: SocketAddr) -> io::Result<u128> {
    match kind {
        "socket" => {
            let started = Instant::now();
            let socket = stream(to)?;
            let took = started.elapsed();
            drop(socket);
            Ok(took.as_nanos())
        }
        "option" => {
            let socket = stream(to)?;
            timed(|| calls::set_int(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1))
        }
        "datagram" => {
            let socket = calls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            let addr = Addr::of(to);
            timed(|| calls::send_to(&socket, b"data", 0, &addr))
        }
        _ => {
            let socket = stream(to)?;
            // Closed by a reset: no port stays behind.
            let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
            calls::set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
            let addr = Addr::of(to);
            timed(|| calls::connect(&socket, &addr))
        }
    }
}

fn timed<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<u128> {
    let started = Instant::now();
    let answer = call();
    let took = started.elapsed();
    answer.map(|_| took.as_nanos())
}

fn stream(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    calls::socket(family, libc::SOCK_STREAM, 0)
}
