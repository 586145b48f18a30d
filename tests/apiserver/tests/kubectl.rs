//! Real kubectl against the server. Fails where kubectl is missing: these tests are about nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const CANARY: &str = "canary-7f3a-secret";

struct Cluster {
    dir: PathBuf,
    server: Child,
}

impl Cluster {
    fn start() -> Cluster {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-apiserver-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_weir-test-apiserver"))
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        let address = ready.trim().strip_prefix("READY ").unwrap();
        let token = std::fs::read_to_string(dir.join("admin.token")).unwrap();
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": format!("https://{address}"), "certificate-authority": dir.join("ca.pem"),
            } }],
            "users": [{ "name": "u", "user": { "token": token } }],
            "contexts": [{ "name": "c", "context": {
                "cluster": "c", "user": "u", "namespace": "shop",
            } }],
        });
        std::fs::write(dir.join("config"), config.to_string()).unwrap();
        Cluster { dir, server }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", &self.dir)
            .env("KUBECONFIG", self.dir.join("config"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &str, input: &[u8]) -> Output {
        let mut command = self.command("timeout");
        command
            .args(["30", "kubectl"])
            .args(line.split_whitespace());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn ok(&self, line: &str, input: &str) -> String {
        let out = self.run(line, input.as_bytes());
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "kubectl {line}: {error}");
        String::from_utf8(out.stdout).unwrap()
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.join("audit.jsonl")).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        self.server.wait().unwrap();
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn get_in_every_format() {
    let cluster = Cluster::start();
    let table = cluster.ok("get pods", "");
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("web-0   1/1     Running"), "{table}");
    assert!(cluster.ok("get pods -o wide", "").contains("node-1"));
    assert_eq!(cluster.ok("get pods -o name", ""), "pod/web-0\npod/web-1\n");
    assert!(
        cluster
            .ok("get secret db-credentials -o yaml", "")
            .contains(CANARY)
    );
    assert!(
        cluster
            .ok("get secret db-credentials -o json", "")
            .contains(CANARY)
    );
    let one = "get pod web-0 -o jsonpath={.status.phase}";
    assert_eq!(cluster.ok(one, ""), "Running");
    let columns = "get pods -o custom-columns=N:.metadata.name --no-headers";
    assert_eq!(cluster.ok(columns, ""), "web-0\nweb-1\n");
    assert!(
        cluster
            .ok("get all,secrets,cm,sa,ns,no,ev -A", "")
            .contains("node/node-1")
    );
    assert_eq!(cluster.ok("get pods -l app=other -o name", ""), "");
    let field = "get pods --field-selector metadata.name=web-1 -o name";
    assert_eq!(cluster.ok(field, ""), "pod/web-1\n");
    assert_eq!(
        cluster
            .ok("get cm -A --chunk-size=1 -o name", "")
            .lines()
            .count(),
        4
    );
    assert!(
        cluster
            .ok("describe pod web-0", "")
            .contains("Started container web")
    );
    let missing = cluster.run("get pod none", b"");
    let error = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(
        error,
        "Error from server (NotFound): pods \"none\" not found\n"
    );
    assert!(cluster.ok("get --raw /readyz", "").contains("ok"));
}

#[test]
fn apply_patch_delete() {
    let cluster = Cluster::start();
    let map = |value: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{k: {value}}}\n")
    };
    assert!(cluster.ok("apply -f -", &map("one")).contains("created"));
    assert!(cluster.ok("apply -f -", &map("two")).contains("configured"));
    assert!(cluster.ok("apply -f -", &map("two")).contains("unchanged"));
    assert!(
        cluster
            .ok("apply --server-side -f -", &map("three"))
            .contains("serverside-applied")
    );
    for (kind, patch) in [
        ("merge", r#"{"data":{"k":"four"}}"#),
        (
            "json",
            r#"[{"op":"replace","path":"/data/k","value":"five"}]"#,
        ),
        ("strategic", r#"{"data":{"k":"six"}}"#),
    ] {
        assert!(
            cluster
                .ok(&format!("patch cm a --type {kind} -p {patch}"), "")
                .contains("patched")
        );
    }
    assert_eq!(cluster.ok("get cm a -o jsonpath={.data.k}", ""), "six");
    cluster.ok("delete cm a --dry-run=server", "");
    cluster.ok("delete cm a", "");
    assert!(!cluster.run("get cm a", b"").status.success());
    assert!(
        cluster
            .ok("scale deploy web --replicas=2 --dry-run=client", "")
            .contains("scaled")
    );
}

#[test]
fn watch_and_logs() {
    let cluster = Cluster::start();
    let mut watch = cluster.command("kubectl");
    let mut watch = watch
        .args(["get", "cm", "-w", "-o", "name"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/kube-root-ca.crt");
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/settings");
    let fresh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fresh}\n";
    cluster.ok("create -f -", fresh);
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/fresh");
    watch.kill().unwrap();
    watch.wait().unwrap();

    assert_eq!(
        cluster.ok("logs web-0 --tail 1", ""),
        "web-0: GET /checkout 200 12ms\n"
    );
    let mut logs = cluster
        .command("kubectl")
        .args(["logs", "-f", "web-0"])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("tick 2")));
    logs.kill().unwrap();
    logs.wait().unwrap();
}

#[test]
fn exec() {
    let cluster = Cluster::start();
    assert_eq!(cluster.ok("exec -i web-0 -- tr a-z A-Z", "hello"), "HELLO");
    let out = cluster.run("exec web-0 -- ls --no-such-option", b"");
    assert_eq!(out.status.code(), Some(2));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("no-such-option")
    );
    assert!(
        !cluster
            .run("exec web-0 -- no-such-program", b"")
            .status
            .success()
    );
    let mut command = cluster.command("timeout");
    let line = "kubectl exec -it web-0 -- sh -c 'tty; stty -a >/dev/null && exit 7'";
    let mut tty = command.args(["30", "script", "-qec", line, "/dev/null"]);
    tty = tty.stdin(Stdio::piped());
    let mut child = tty.spawn().unwrap();
    let keep = child.stdin.take();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.contains("/dev/pts/"), "{text}");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    drop(keep);
    assert!(cluster.audit().contains("v5.channel.k8s.io"));
}

#[test]
fn copy_both_ways() {
    let cluster = Cluster::start();
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    std::fs::write(cluster.dir.join("up"), &bytes).unwrap();
    cluster.ok("cp up web-0:there", "");
    let pod = cluster.dir.join("pods/shop.web-0/there");
    assert_eq!(std::fs::read(pod).unwrap(), bytes);
    cluster.ok("cp web-0:there down", "");
    assert_eq!(std::fs::read(cluster.dir.join("down")).unwrap(), bytes);
}

#[test]
fn authorisation_and_audit() {
    let cluster = Cluster::start();
    assert_eq!(cluster.ok("auth can-i get pods", ""), "yes\n");
    assert!(cluster.ok("auth can-i --list", "").contains("*.*"));
    let who = cluster.ok("auth whoami --as jane --as-group team", "");
    assert!(who.contains("jane") && who.contains("team"), "{who}");
    let audit = cluster.audit();
    assert!(audit.contains(r#""groups":["team","system:authenticated"]"#));
    let token = cluster.ok("create token web", "");
    let line = format!("auth whoami --token {}", token.trim());
    assert!(
        cluster
            .ok(&line, "")
            .contains("system:serviceaccount:shop:")
    );
    let bad = cluster.run("get pods --token wrong", b"");
    assert!(!bad.status.success(), "a wrong token was accepted");
    assert!(cluster.audit().contains(r#""status":401"#));
}

#[test]
fn port_forward_in_websocket_and_spdy() {
    let cluster = Cluster::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut text = [0; 4];
            socket.read_exact(&mut text).unwrap();
            text.reverse();
            socket.write_all(&text).unwrap();
        }
    });
    for websockets in ["true", "false"] {
        let mut forward = cluster.command("kubectl");
        forward.args(["port-forward", "web-0", &format!(":{port}")]);
        let mut forward = forward
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(forward.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let local = line.split_whitespace().nth(2).unwrap().to_owned();
        let mut socket = std::net::TcpStream::connect(local).unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        socket.write_all(b"abcd").unwrap();
        let mut text = [0; 4];
        socket.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"dcba");
        forward.kill().unwrap();
        forward.wait().unwrap();
    }
    assert!(cluster.audit().contains("SPDY/3.1+portforward.k8s.io"));
}

#[test]
fn exec_over_spdy() {
    let cluster = Cluster::start();
    let mut command = cluster.command("timeout");
    command.args([
        "30",
        "kubectl",
        "exec",
        "-i",
        "web-0",
        "--",
        "sh",
        "-c",
        "cat; exit 5",
    ]);
    let mut child = command
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"over spdy").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.stdout, b"over spdy");
    assert_eq!(out.status.code(), Some(5));
    assert!(cluster.audit().contains("SPDY/3.1"));
}
