//! The child processes: the real broker, and a stand-in for the node that only accepts.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use weir_broker::client::{Beat, NodeLink, NodePulse, Told};
use weir_broker::{BrokerConfig, Destination, Egress, Members, WorkloadConfig, World};
use weir_kernel::Origins;

type Failure = Box<dyn Error>;

fn text(value: &Value, name: &str) -> Result<String, Failure> {
    let found = value.get(name).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("no {name}"))?.to_owned())
}

/// Runs the broker as the JSON says, until it is killed; says `READY` once all is attached.
///
/// # Errors
/// Whatever the broker fails with.
pub fn broker(config: &str) -> Result<(), Failure> {
    let value: Value = serde_json::from_str(config)?;
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned();
    let mut workloads = Vec::new();
    for workload in list("workloads").unwrap_or_default() {
        workloads.push(WorkloadConfig {
            name: text(&workload, "name")?,
            members: match text(&workload, "cgroup") {
                Ok(path) => Members::Cgroup(path),
                Err(_) => Members::Told,
            },
            netns: text(&workload, "netns").ok().map(PathBuf::from),
            token: weir_broker::TokenSource::None,
            egress: egress(workload.get("allow"))?,
        });
    }
    let mut destinations = Vec::new();
    for destination in list("destinations").unwrap_or_default() {
        destinations.push(place(&destination)?);
    }
    let texts = |name: &str| -> Vec<String> {
        let all = list(name).unwrap_or_default();
        let texts = all.iter().filter_map(Value::as_str);
        texts.map(ToOwned::to_owned).collect()
    };
    let config = BrokerConfig {
        node_uid: 0,
        run_dir: text(&value, "run_dir")?.into(),
        pins: text(&value, "pins")?.into(),
        own_cgroup: text(&value, "own")?,
        governed: texts("governed"),
        exempt: texts("exempt"),
        pods_root: text(&value, "pods_root").unwrap_or_else(|_| "/".to_owned()),
        kubelet_dir: "/var/lib/kubelet".into(),
        runtimes: Vec::new(),
        runtime_parents: Vec::new(),
        workloads,
        credentials: Vec::new(),
        destinations,
        found_targets: texts("found_targets"),
        guard_ms: value
            .get("guard_ms")
            .and_then(Value::as_u64)
            .unwrap_or(30_000),
    };
    let stop = AtomicBool::new(false);
    weir_broker::run(config, &stop, || say("READY"))?;
    Ok(())
}

fn place(value: &Value) -> Result<Destination, Failure> {
    let net: IpAddr = text(value, "net")?.parse()?;
    let port = value.get("port").and_then(Value::as_u64).unwrap_or(0);
    let whole = if net.is_ipv4() { 32 } else { 128 };
    let prefix = value.get("prefix").and_then(Value::as_u64);
    Ok(Destination {
        net,
        prefix: u8::try_from(prefix.unwrap_or(whole))?,
        port: u16::try_from(port)?,
    })
}

fn egress(list: Option<&Value>) -> Result<Option<Egress>, Failure> {
    let Some(list) = list.and_then(Value::as_array) else {
        return Ok(None);
    };
    let allow: Result<Vec<Destination>, Failure> = list.iter().map(place).collect();
    Ok(Some(Egress {
        allow: allow?,
        named: true,
    }))
}

/// One line to whoever started us.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone hears nothing; the process ends by its own.
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A connection of the tests is over in much less.
const DRAINS: Duration = Duration::from_secs(1);

/// The stand-in: heartbeats, accepts on every listener it is given, answers
/// `weir DESTINATION pid comm` to sockets with an origin and closes the others.
///
/// Lines on standard input: `counts`, `ledger`, `refusals`, `silent` (no more heartbeats), `alive`, and
/// JSON of what a node tells of the world.
///
/// # Errors
/// No broker.
pub fn node(socket: &Path) -> Result<(), Failure> {
    let (link, mut welcome) = NodeLink::connect(socket, 0)?;
    let origins = Arc::new(Origins::new(welcome.accepted_map.try_clone()?));
    let mut serving = Vec::new();
    link.listen(welcome.take_told(), move |told| {
        hear(told, &origins, &mut serving);
    })?;
    let link = Arc::new(link);
    let silent = Arc::new(AtomicBool::new(false));
    let (sender, serving) = mpsc::channel();
    link.serving(move |done| {
        // We wait for it below.
        let _gone = sender.send(done);
    });
    serving.recv_timeout(Duration::from_secs(2))??;
    let (pulse, quiet) = (welcome.pulse, Arc::clone(&silent));
    std::thread::spawn(move || beat(&pulse, &quiet));
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "silent" => {
                silent.store(true, Ordering::Relaxed);
                say("SILENT");
            }
            "alive" => {
                silent.store(false, Ordering::Relaxed);
                say("SPEAKS");
            }
            "counts" => link.counts(|counts| {
                let counts = counts.unwrap_or_default();
                say(&format!("COUNTS {}", json!(counts)));
            }),
            "ledger" => link.ledger(|report| {
                let report = report.unwrap_or_default();
                say(&format!(
                    "LEDGER {}",
                    json!({"report": report, "taken": *taken()})
                ));
            }),
            "refusals" => link.refusals(|refusals| {
                let refusals = refusals.unwrap_or_default();
                say(&format!("REFUSALS {}", json!(refusals)));
            }),
            told => {
                let world: World = serde_json::from_str(told)?;
                link.world(world, |done| match done {
                    Ok(()) => say("TOLD"),
                    Err(error) => say(&format!("TOLD {error}")),
                });
            }
        }
    }
    Ok(())
}

/// Listeners that are being accepted from, by namespace.
type Serving = Vec<(u64, Arc<AtomicBool>)>;

fn hear(told: Told, origins: &Arc<Origins>, serving: &mut Serving) {
    match told {
        Told::Listener {
            workload,
            netns,
            addr,
            socket,
        } => {
            let stop = Arc::new(AtomicBool::new(false));
            serving.push((netns, Arc::clone(&stop)));
            let origins = Arc::clone(origins);
            say(&format!("LISTENER {workload} {addr}"));
            std::thread::spawn(move || accept(&socket, &origins, (&stop, &workload)));
        }
        Told::ListenerGone { netns, .. } => {
            for (_, stop) in serving.iter().filter(|(cookie, _)| *cookie == netns) {
                stop.store(true, Ordering::Relaxed);
            }
            serving.retain(|(cookie, _)| *cookie != netns);
        }
        Told::Gone(why) => {
            say(&format!("TURNED AWAY {why}"));
            std::process::exit(3);
        }
        Told::Away => say("AWAY"),
        // Its listeners follow; those that are being accepted from go on.
        Told::Back { .. } => say("BACK"),
        // What was accepted is served to its end; nothing else is taken.
        Told::Drain { .. } => {
            for (_, stop) in serving.iter() {
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::spawn(|| {
                std::thread::sleep(DRAINS);
                std::process::exit(0);
            });
        }
        Told::Session(_) | Told::Passed(_) => {}
    }
}

/// Heartbeats, unless told to be quiet; says `ALIVE` after the first.
fn beat(pulse: &NodePulse, quiet: &AtomicBool) {
    let mut first = true;
    loop {
        let beats = || matches!(pulse.beat(), Ok(Beat::Broker | Beat::Own));
        if !quiet.load(Ordering::Relaxed) && beats() && first {
            first = false;
            say("ALIVE");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Connections with an origin by workload, as the node counts them.
static TAKEN: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn taken() -> MutexGuard<'static, BTreeMap<String, u64>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(socket: &OwnedFd, origins: &Arc<Origins>, (stop, workload): (&AtomicBool, &str)) {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100_u16)).is_err() {
            continue;
        }
        let Ok(fd) = nix::sys::socket::accept(socket.as_raw_fd()) else {
            continue;
        };
        let Ok(fd) = crate::calls::adopt(i64::from(fd)) else {
            continue;
        };
        let stream = TcpStream::from(fd);
        let origin = origins.lookup(stream.as_fd());
        // An origin whose other end is gone is one that was accepted.
        let gone = std::io::ErrorKind::NotConnected;
        if matches!(&origin, Ok(Some(_))) || origin.as_ref().is_err_and(|e| e.kind() == gone) {
            *taken().entry(workload.to_owned()).or_default() += 1;
        }
        // No origin, no flow: dropped here.
        if let Ok(Some(origin)) = origin {
            let greeting = format!("weir {} {} {}\n", origin.dst.0, origin.pid, origin.comm);
            std::thread::spawn(move || serve(stream, &greeting));
        }
    }
}

/// Answers, then waits for the client to go: closing over unread bytes would reset the answer.
fn serve(mut stream: TcpStream, greeting: &str) {
    let mut rest = [0; 256];
    let answered = stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .and_then(|()| stream.write_all(greeting.as_bytes()))
        .and_then(|()| stream.shutdown(Shutdown::Write));
    if answered.is_ok() {
        while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
    }
}
