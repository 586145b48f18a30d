//! A server, two workloads and a stranger, each in a namespace; cgroups; broker and node.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use weir_broker::World;

use crate::jail;
use crate::role::Role;
use crate::sniff::{self, Seen};

pub const SERVER4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 10);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x10);
/// Of the bridge, which is the server's device.
pub const SERVER_MAC: [u8; 6] = [2, 0x57, 0, 0, 0, 1];
/// Never protected.
pub const OPEN_PORT: u16 = 9000;
/// The first recipe's own port; each following recipe has the next one.
pub const FIRST_PORT: u16 = 10_000;
pub const PORTS: u16 = 160;

/// One workload's place.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: &'static str,
    pub netns: PathBuf,
    pub cgroup: PathBuf,
    pub own4: Ipv4Addr,
    pub own6: Ipv6Addr,
}

/// Everything; dropping it removes everything.
pub struct Lab {
    pub binary: String,
    tag: String,
    pub root: PathBuf,
    pub own: PathBuf,
    pub pins: PathBuf,
    pub run_dir: PathBuf,
    mount: PathBuf,
    pub pods: Vec<Pod>,
    pub seen: Seen,
    pub broker: Option<Role>,
    pub node: Option<Role>,
    protected: bool,
    wanderer: bool,
    changes: Vec<Change>,
    host: &'static str,
    longest_restart: Duration,
}

type Change = Box<dyn Fn(&Lab, &mut Value)>;

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// The mount point of cgroup v2.
fn cgroup_mount() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    text.lines()
        .find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mount = before.split(' ').nth(4)?;
            after.starts_with("cgroup2 ").then(|| mount.into())
        })
        .expect("cgroup v2 is mounted")
}

fn netns(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

impl Lab {
    /// Namespaces, cgroups and the server; Weir is not there yet.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        let tag = format!("wkt{:x}", std::process::id());
        let mount = cgroup_mount();
        let root = mount.join(&tag);
        let server = format!("{tag}s");
        ip(&format!("netns add {server}"));
        ip(&format!("-n {server} link add br0 type bridge"));
        ip(&format!(
            "-n {server} link set br0 address 02:57:00:00:00:01"
        ));
        for addr in [
            "10.99.0.10/24",
            "10.99.0.11/24",
            "fd99::10/64 nodad",
            "fd99::11/64 nodad",
        ] {
            ip(&format!("-n {server} addr add {addr} dev br0"));
        }
        for device in ["lo", "br0"] {
            ip(&format!("-n {server} link set {device} up"));
        }
        let mut pods = Vec::new();
        for (name, host) in [("a", 21_u8), ("b", 22), ("u", 23)] {
            let space = format!("{tag}{name}");
            ip(&format!("netns add {space}"));
            ip(&format!(
                "-n {server} link add p{name} type veth peer name eth0 netns {space}"
            ));
            ip(&format!("-n {server} link set p{name} master br0 up"));
            ip(&format!("-n {space} addr add 10.99.0.{host}/24 dev eth0"));
            ip(&format!(
                "-n {space} addr add fd99::{host}/64 dev eth0 nodad"
            ));
            ip(&format!("-n {space} link set lo up"));
            ip(&format!("-n {space} link set eth0 up"));
            let cgroup = root.join("governed").join(name);
            fs::create_dir_all(&cgroup).expect("cgroups can be made");
            let last: u16 = u16::from(host / 10) * 16 + u16::from(host % 10);
            pods.push(Pod {
                name,
                netns: netns(&space),
                cgroup,
                own4: Ipv4Addr::new(10, 99, 0, host),
                own6: Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, last),
            });
        }
        let run_dir = PathBuf::from(format!("/run/{tag}"));
        fs::create_dir_all(&run_dir).expect("/run is writable");
        let seen = start_server(&netns(&server));
        let lab = Self {
            binary: binary.to_owned(),
            own: root.join("own"),
            pins: PathBuf::from(format!("/sys/fs/bpf/{tag}")),
            tag,
            root,
            run_dir,
            mount,
            pods,
            seen,
            broker: None,
            node: None,
            protected: false,
            wanderer: false,
            changes: Vec::new(),
            host: "",
            longest_restart: Duration::ZERO,
        };
        lab.wait_for_links();
        lab
    }

    /// A device is up a little before its bridge passes the first frame.
    fn wait_for_links(&self) {
        let servers = [
            SocketAddr::new(SERVER4.into(), OPEN_PORT),
            SocketAddr::new(SERVER6.into(), OPEN_PORT),
        ];
        for pod in &self.pods {
            for to in servers {
                let reached = crate::until(Duration::from_secs(5), || {
                    let said = self.probe(("", pod.name), "reach", to, None);
                    said.starts_with("said server").then_some(())
                });
                assert!(reached.is_some(), "{} never reaches {to}", pod.name);
            }
        }
    }

    /// The pod of that name.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        let mut pods = self.pods.iter();
        pods.find(|pod| pod.name == name).expect("a pod")
    }

    fn below_mount(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.mount).expect("in the tree");
        format!("/{}", below.display())
    }

    fn config(&self) -> Value {
        let mut destinations = Vec::new();
        for port in FIRST_PORT..FIRST_PORT + PORTS {
            destinations.push(json!({"net": SERVER4, "port": port}));
            destinations.push(json!({"net": SERVER6, "port": port}));
        }
        let workloads: Vec<Value> = self
            .pods
            .iter()
            .filter(|pod| pod.name != "u")
            .map(|pod| {
                json!({
                    "name": pod.name,
                    "cgroup": self.below_mount(&pod.cgroup),
                    "netns": pod.netns,
                })
            })
            .collect();
        let mut workloads = workloads;
        if self.wanderer {
            let cgroup = self.below_mount(&self.root.join("governed/c"));
            workloads.push(json!({"name": "c", "cgroup": cgroup}));
        }
        let mut config = json!({
            "run_dir": self.run_dir,
            "pins": self.pins,
            "own": self.below_mount(&self.own),
            "governed": [self.below_mount(&self.root.join("governed"))],
            "workloads": workloads,
            "destinations": destinations,
        });
        for change in &self.changes {
            change(self, &mut config);
        }
        config
    }

    /// Changes the configuration of each broker that is started from here on.
    pub fn change(&mut self, change: impl Fn(&Self, &mut Value) + 'static) {
        self.changes.push(Box::new(change));
    }

    /// Brokers are started in this pod's namespace, which is the host's to them.
    pub fn set_host(&mut self, pod: &'static str) {
        self.host = pod;
    }

    /// A cgroup below the governed root, as the configuration names it.
    #[must_use]
    pub fn governed(&self, name: &str) -> String {
        let path = self.below_mount(&self.root.join("governed").join(name));
        path.trim_end_matches('/').to_owned()
    }

    /// Makes a cgroup below the governed root.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn make_cgroup(&self, name: &str) {
        fs::create_dir_all(self.cgroup(name)).expect("cgroups can be made");
    }

    /// Tells the broker, as a node does; empty when it was taken.
    ///
    /// # Panics
    /// There is no node.
    pub fn tell(&mut self, world: &World) -> String {
        let node = self.node.as_mut().expect("a node that tells");
        node.ask(&json!(world).to_string(), "TOLD")
    }

    /// A flood of frames from a container that just starts; what it said.
    ///
    /// # Panics
    /// It could not be started.
    #[must_use]
    pub fn flood(&self, (cgroup, space): (&str, &str), port: u16) -> String {
        let output = Command::new(&self.binary)
            .args(["flood", "packet_syn_v4"])
            .args([self.cgroup(cgroup), self.space(space)])
            .args([&port.to_string(), "10.99.0.99", "fd99::99"])
            .stdin(Stdio::null())
            .output()
            .expect("a flood");
        spoken("flood", &output.stdout, &output.stderr)
    }

    /// Starts the broker; back once everything is attached.
    pub fn start_broker(&mut self) {
        self.protected = true;
        let config = self.config().to_string();
        let mut broker = if self.host.is_empty() {
            Role::start(&self.binary, &["broker", &config])
        } else {
            let host = format!("--net={}", self.space(self.host).display());
            Role::start("nsenter", &[&host, &self.binary, "broker", &config])
        };
        broker.expect("READY");
        self.broker = Some(broker);
    }

    /// SIGKILL to the broker, and another one; back once the node has found it.
    ///
    /// # Panics
    /// There is no node, or it does not come back.
    pub fn restart_broker(&mut self) {
        let began = std::time::Instant::now();
        self.broker = None;
        self.start_broker();
        self.node.as_mut().expect("a node").expect("BACK");
        self.longest_restart = self.longest_restart.max(began.elapsed());
    }

    /// Every restart of the broker took less than a node waits for one, which is what is promised;
    /// an emulated guest may be slower. Says so.
    #[must_use]
    pub fn restarts_were_quick(&self) -> bool {
        let (longest, limit) = (self.longest_restart, weir_broker::client::AWAY_MAX);
        crate::roles::say(&format!("a restart of the broker took {longest:?} at most"));
        longest + Duration::from_secs(1) < limit
    }

    /// A broker beside the one that runs; what it says at its end.
    ///
    /// # Panics
    /// It could not be started.
    #[must_use]
    pub fn second_broker(&self) -> String {
        let output = Command::new(&self.binary)
            .args(["broker", &self.config().to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("a broker");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the stand-in; back once it has every listener and a heartbeat was written.
    pub fn start_node(&mut self) {
        let socket = self.run_dir.join("broker.sock");
        let mut node = Role::start(&self.binary, &["node", &socket.display().to_string()]);
        let mut alive = false;
        while !alive || node.listeners.len() < 4 {
            let line = node.expect("");
            alive |= line == "ALIVE";
        }
        self.node = Some(node);
    }

    /// Starts another stand-in beside the one that serves, which drains and leaves.
    ///
    /// # Panics
    /// The one before does not leave.
    pub fn upgrade_node(&mut self) {
        let before = self.node.take();
        self.start_node();
        if let Some(mut before) = before {
            before.child.wait().expect("the node before leaves");
        }
    }

    /// One recipe, as root inside a cgroup and namespace; what it said.
    ///
    /// # Panics
    /// The attempt could not be made.
    #[must_use]
    pub fn attempt(&self, (cgroup, space): (&str, &str), name: &str, port: u16) -> String {
        let host = self.pods.iter().find(|pod| pod.name == space);
        let own = host.map_or_else(
            || {
                [
                    Ipv4Addr::LOCALHOST.to_string(),
                    Ipv6Addr::LOCALHOST.to_string(),
                ]
            },
            |pod| [pod.own4.to_string(), pod.own6.to_string()],
        );
        let output = Command::new(&self.binary)
            .args(["recipe", name])
            .args([self.cgroup(cgroup), self.space(space)])
            .arg(port.to_string())
            .args(own)
            .stdin(Stdio::null())
            .output()
            .expect("attempts can be started");
        spoken(name, &output.stdout, &output.stderr)
    }

    fn cgroup(&self, name: &str) -> PathBuf {
        if name.is_empty() {
            return PathBuf::new();
        }
        self.root.join("governed").join(name)
    }

    /// Where a namespace is.
    #[must_use]
    pub fn space(&self, name: &str) -> PathBuf {
        netns(&format!("{}{name}", self.tag))
    }

    /// One probe; what it said.
    ///
    /// # Panics
    /// The probe could not be made.
    #[must_use]
    pub fn probe(
        &self,
        place: (&str, &str),
        kind: &str,
        to: SocketAddr,
        other: Option<SocketAddr>,
    ) -> String {
        let mut command = self.probe_command(place, kind, to);
        command.args(other.map(|addr| addr.to_string()));
        let output = command.stdin(Stdio::null()).output().expect("a probe");
        spoken(kind, &output.stdout, &output.stderr)
    }

    fn probe_command(&self, place: (&str, &str), kind: &str, to: SocketAddr) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(["probe", kind])
            .args([self.cgroup(place.0), self.space(place.1)])
            .arg(to.to_string());
        command
    }

    /// A probe that runs until [`Lab::ended`].
    ///
    /// # Panics
    /// The probe could not be started.
    #[must_use]
    pub fn probe_started(&self, place: (&str, &str), kind: &str, to: SocketAddr) -> Child {
        let mut command = self.probe_command(place, kind, to);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().expect("a probe")
    }

    /// Ends a probe; what it said.
    ///
    /// # Panics
    /// It said nothing.
    #[must_use]
    pub fn ended(&self, mut child: Child) -> String {
        drop(child.stdin.take());
        let output = child.wait_with_output().expect("a probe ends");
        spoken("a probe", &output.stdout, &output.stderr)
    }

    /// A third workload, `c`, whose namespaces the broker has to find by itself.
    ///
    /// # Panics
    /// Its cgroup cannot be made.
    pub fn add_wanderer(&mut self) {
        fs::create_dir_all(self.cgroup("c")).expect("cgroups can be made");
        self.wanderer = true;
    }

    /// A new namespace on the bridge, by its last address number.
    #[must_use]
    pub fn wander(&self, host: u8) -> String {
        let name = self.wander_bare(host);
        self.address(&name, &format!("10.99.0.{host}/24"));
        self.address(&name, &format!("fd99::{host}/64"));
        name
    }

    /// The same without an address.
    #[must_use]
    pub fn wander_bare(&self, host: u8) -> String {
        let name = format!("w{host}");
        let (space, server) = (format!("{}{name}", self.tag), format!("{}s", self.tag));
        ip(&format!("netns add {space}"));
        ip(&format!(
            "-n {server} link add p{name} type veth peer name eth0 netns {space}"
        ));
        ip(&format!("-n {server} link set p{name} master br0 up"));
        ip(&format!("-n {space} link set lo up"));
        ip(&format!("-n {space} link set eth0 up"));
        name
    }

    /// Gives such a namespace an address with its prefix.
    pub fn address(&self, name: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        ip(&format!(
            "-n {}{name} addr add {address} dev eth0{nodad}",
            self.tag
        ));
    }

    /// Removes such a namespace.
    pub fn leave(&self, name: &str) {
        ip(&format!("netns del {}{name}", self.tag));
    }

    /// Refusals and drops by reason, over all classes.
    pub fn counts(&mut self) -> Value {
        let node = self.node.as_mut().expect("a node to ask");
        let text = node.ask("counts", "COUNTS");
        serde_json::from_str(&text).expect("counts are JSON")
    }

    /// The kernel's ledger and what the stand-in took.
    pub fn ledger(&mut self) -> Value {
        let node = self.node.as_mut().expect("a node to ask");
        let text = node.ask("ledger", "LEDGER");
        serde_json::from_str(&text).expect("the ledger is JSON")
    }

    /// Refusals since the last call.
    pub fn refusals(&mut self) -> Vec<Value> {
        let node = self.node.as_mut().expect("a node to ask");
        let text = node.ask("refusals", "REFUSALS");
        serde_json::from_str(&text).expect("refusals are JSON")
    }

    /// A listener of a workload, as the broker announced it.
    #[must_use]
    pub fn listener(&self, workload: &str, ipv6: bool) -> SocketAddr {
        let node = self.node.as_ref().expect("a node");
        node.listeners
            .iter()
            .filter_map(|line| line.strip_prefix("LISTENER ")?.split_once(' '))
            .filter(|(name, _)| *name == workload)
            .filter_map(|(_, addr)| addr.parse().ok())
            .find(|addr: &SocketAddr| addr.is_ipv6() == ipv6)
            .expect("a listener")
    }

    /// Ends node and broker and removes what they left in the kernel.
    pub fn uninstall(&mut self) {
        self.node = None;
        self.broker = None;
        if self.protected {
            weir_kernel::uninstall(&self.pins).expect("uninstall");
            self.protected = false;
        }
    }
}

fn spoken(name: &str, output: &[u8], errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(output).trim().to_owned();
    let errors = String::from_utf8_lossy(errors);
    assert!(
        text.starts_with("said ") || text.starts_with("failed "),
        "{name}: the attempt itself broke: {text} {errors}"
    );
    text
}

/// Sum of one counter over all classes; `refused` counters by their reason.
#[must_use]
pub fn count_of(counts: &Value, name: &str) -> u64 {
    let reports = counts.as_array().map(Vec::as_slice).unwrap_or_default();
    reports
        .iter()
        .map(|report| match report.get(name).and_then(Value::as_u64) {
            Some(count) => count,
            None => reason_of(report, name),
        })
        .sum()
}

fn reason_of(report: &Value, name: &str) -> u64 {
    let refused = report.get("refused").and_then(Value::as_array);
    refused
        .into_iter()
        .flatten()
        .filter(|entry| entry.get(0).and_then(Value::as_str) == Some(name))
        .filter_map(|entry| entry.get(1).and_then(Value::as_u64))
        .sum()
}

/// Listens on every port of both families, greets with `server`, and counts packets.
fn start_server(space: &Path) -> Seen {
    let space = space.to_owned();
    let thread = std::thread::spawn(move || {
        jail::enter_namespace(&space).expect("the server's namespace");
        let ports = (FIRST_PORT..FIRST_PORT + PORTS).chain([OPEN_PORT]);
        for port in ports {
            // Dual stack: mapped clients are IPv4 ones.
            let listener = TcpListener::bind(("::", port)).expect("a port");
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || greet(&listener))
                .expect("a thread");
        }
        sniff::open().expect("a packet socket")
    });
    let socket = thread.join().expect("the server starts");
    sniff::count(socket, SERVER4, SERVER6)
}

fn greet(listener: &TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        // The client may be gone already.
        let _gone = stream.write_all(b"server\n");
        let _gone = stream.shutdown(std::net::Shutdown::Write);
        let _gone = stream.set_read_timeout(Some(Duration::from_millis(100)));
        let mut rest = [0; 256];
        while matches!(std::io::Read::read(&mut stream, &mut rest), Ok(count) if count > 0) {}
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.uninstall();
        // Those of wanderers that a test did not remove, too.
        let spaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for space in spaces {
            let name = space.file_name().to_string_lossy().into_owned();
            // Another lab's tag may begin like this one's; `w` is no hexadecimal digit.
            let own = name.strip_prefix(&self.tag);
            if own.is_some_and(|own| own.starts_with('w') || ["a", "b", "u", "s"].contains(&own)) {
                let _gone = Command::new("ip").args(["netns", "del", &name]).output();
            }
        }
        let gone = crate::until(Duration::from_secs(5), || {
            // Dying processes keep a cgroup for a moment.
            remove_tree(&self.root);
            (!self.root.exists()).then_some(())
        });
        let _gone = fs::remove_dir_all(&self.run_dir);
        if !std::thread::panicking() {
            assert!(gone.is_some(), "a cgroup is left");
            assert!(!self.pins.exists(), "pins are left");
        }
    }
}

/// Removes a cgroup and what attempts made below it; what is busy stays.
fn remove_tree(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _busy = fs::remove_dir(path);
}
