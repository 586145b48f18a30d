//! Who sent each statement: also when it is gone, also when the socket was handed on.

use anyhow::{Result, ensure};
use weir_e2e::lab::Lab;

/// A plain conversation, up to its first ReadyForQuery.
const PLAIN: &str = r#"
import os, socket, struct, subprocess, sys
s = socket.create_connection((os.environ["PGHOST"], 5432))
start = b"user\0weir\0database\0shop\0\0"
s.sendall(struct.pack("!ii", len(start) + 8, 196608) + start)
def ready():
    while True:
        head = s.recv(5, socket.MSG_WAITALL)
        length = struct.unpack("!i", head[1:])[0] - 4
        body = s.recv(length, socket.MSG_WAITALL) if length else b""
        assert head[:1] != b"E", body
        if head[:1] == b"Z":
            return
def query(text):
    return b"Q" + struct.pack("!i", len(text) + 5) + text.encode() + b"\0"
ready()
"#;

/// The second statement is sent over the same socket by another program, which is gone then. Its
/// argument is the message, and a canary.
const HANDED_ON: &str = r#"
s.sendall(query("select 70101")); ready()
send = "import os,sys; os.write(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))"
subprocess.run(["/bin/sh", "-c", 'exec "$0" -S -c "$@"', sys.executable, send, str(s.fileno()),
    query("select 70102").hex(), "--token=hunter2canary"], pass_fds=[s.fileno()], check=True)
ready()
s.sendall(query("select 70103")); ready()
"#;

/// A socket that goes to a process which did not inherit it: by SCM_RIGHTS, over a socket
/// of the file system.
const PASSED: &str = r#"
s.sendall(query("select 70301")); ready()
path = "/tmp/weir-passed-%d" % os.getpid()
listener = socket.socket(socket.AF_UNIX); listener.bind(path); listener.listen()
take = """
import os, socket, sys
to = socket.socket(socket.AF_UNIX); to.connect(sys.argv[1])
message, fds, _, _ = socket.recv_fds(to, 4096, 1)
os.write(fds[0], message)
"""
other = subprocess.Popen([sys.executable, "-S", "-c", take, path])
peer, _ = listener.accept()
socket.send_fds(peer, [query("select 70302")], [s.fileno()])
assert other.wait() == 0
ready()
s.sendall(query("select 70303")); ready()
os.unlink(path)
print("pids", os.getpid(), other.pid)
"#;

/// One connection of HTTP over TLS: the second request is sent by a child, with the state of the
/// encryption that it inherited.
const HTTP: &str = r#"
import os, socket, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
s = context.wrap_socket(socket.create_connection((os.environ["PGHOST"], PORT)), server_hostname="kubernetes.default.svc")
def send(name):
    s.sendall(("GET /api/v1/namespaces/shop/pods?labelSelector=app%%3D%s HTTP/1.1\r\nHost: kubernetes.default.svc\r\n\r\n" % name).encode())
def answer():
    text = b""
    while b"\r\n\r\n" not in text:
        text += s.recv(65536)
    head, body = text.split(b"\r\n\r\n", 1)
    assert b" 200 " in head.split(b"\r\n")[0], head
    length = [int(l.split(b":")[1]) for l in head.split(b"\r\n") if l.lower().startswith(b"content-length")]
    while len(body) < length[0]:
        body += s.recv(65536)
send("parent"); answer()
child = os.fork()
if child == 0:
    send("child")
    os._exit(0)
os.waitpid(child, 0)
answer()
print("pids", os.getpid(), child)
"#;

/// One connection of SSH: the command of the second channel is sent by a child.
const SSH: &str = r#"
import os, paramiko
from paramiko.common import cMSG_CHANNEL_REQUEST
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(os.environ["PGHOST"], username="deploy", password="x", allow_agent=False, look_for_keys=False)
_, out, _ = client.exec_command("echo 70501")
assert out.read() == b"70501\n"
transport = client.get_transport()
channel = transport.open_session()
child = os.fork()
if child == 0:
    ask = paramiko.Message()
    ask.add_byte(cMSG_CHANNEL_REQUEST)
    ask.add_int(channel.remote_chanid)
    ask.add_string("exec"); ask.add_boolean(False); ask.add_string("echo 70502")
    transport._send_message(ask)
    os._exit(0)
os.waitpid(child, 0)
assert channel.recv(100) == b"70502\n"
print("pids", os.getpid(), child, flush=True)
os._exit(0)
"#;

/// The processes that a script named, and what the record says of its requests in their order.
fn pids_of(said: &weir_e2e::lab::Said) -> Result<(String, String)> {
    ensure!(said.code == 0, "{said:?}");
    let line = said.out.lines().find(|line| line.starts_with("pids"));
    let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
    match words[..] {
        ["pids", one, other] => Ok((one.to_owned(), other.to_owned())),
        _ => anyhow::bail!("{said:?}"),
    }
}

fn rows(lab: &Lab, what: &str, statement: &str, count: usize) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT {what} FROM weir.fact WHERE kind = 'request' AND statement LIKE '%{statement}%' \
         ORDER BY event_time, seq"
    );
    let mut last = String::new();
    // The shipper cuts a batch each second.
    for _ in 0..100 {
        last = lab.store(&sql)?;
        if last.lines().count() >= count {
            return Ok(last.lines().map(str::to_owned).collect());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{count} rows never came: {last}")
}

#[test]
fn a_short_lived_client_is_known_with_its_ancestors_and_without_its_secrets() -> Result<()> {
    let lab = Lab::current()?;
    let script = "psql -Atc 'select 70001' \
                  \"postgres://x:hunter2canary@$PGHOST/shop\" >/dev/null 2>&1; \
                  psql -Atc 'select 70001'; exit 0";
    let said = lab.exec("analyst", &["sh", "-c", script], "")?;
    ensure!(said.code == 0, "{said:?}");
    let what = "exe, length(exe_sha256), lineage, arrayStringConcat(parents, '|'), argv";
    for row in rows(&lab, what, "select 70001", 1)? {
        let columns: Vec<&str> = row.split('\t').collect();
        let [exe, sha, lineage, parents, argv] = columns[..] else {
            anyhow::bail!("{row}");
        };
        ensure!(exe.ends_with("/psql") && sha == "64", "{row}");
        ensure!(lineage == "kernel" && parents.contains("sh"), "{row}");
        ensure!(argv.contains("select 70001"), "{row}");
    }
    let canary = lab.store("SELECT count() FROM weir.fact WHERE argv LIKE '%hunter2canary%'")?;
    ensure!(canary.trim() == "0", "a secret in an argument is recorded");
    Ok(())
}

#[test]
fn a_socket_that_is_handed_on_changes_the_process_of_its_statements() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("analyst", &format!("{PLAIN}{HANDED_ON}"))?;
    ensure!(said.code == 0, "{said:?}");
    let found = rows(
        &lab,
        "statement, pid, ppid, lineage, argv",
        "select 7010",
        3,
    )?;
    let column = |row: usize, at: usize| -> String {
        let row = found.get(row).map_or("", String::as_str);
        row.split('\t').nth(at).unwrap_or_default().to_owned()
    };
    for (row, statement) in ["select 70101", "select 70102", "select 70103"]
        .into_iter()
        .enumerate()
    {
        ensure!(column(row, 0) == statement, "{found:?}");
        ensure!(column(row, 3) == "kernel", "{found:?}");
    }
    ensure!(
        column(0, 1) == column(2, 1),
        "the first speaks again: {found:?}"
    );
    ensure!(
        column(1, 1) != column(0, 1),
        "another one sent it: {found:?}"
    );
    ensure!(
        column(1, 2) == column(0, 1),
        "whose parent is the first: {found:?}"
    );
    ensure!(column(1, 4).contains("os.write"), "{found:?}");
    ensure!(!column(1, 4).contains("hunter2canary"), "{found:?}");
    Ok(())
}

/// Agents have pid namespaces of their own, so that numbers are compared among themselves only.
#[test]
fn a_socket_that_is_passed_changes_the_process_of_its_statements() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("analyst", &format!("{PLAIN}{PASSED}"))?;
    let (one, other) = pids_of(&said)?;
    ensure!(one != other, "{said:?}");
    let found = rows(&lab, "pid, argv", "select 7030", 3)?;
    let column = |row: usize, at: usize| -> &str {
        let row = found.get(row).map_or("", String::as_str);
        row.split('\t').nth(at).unwrap_or_default()
    };
    ensure!(column(0, 0) == column(2, 0), "{found:?}");
    ensure!(column(0, 0) != column(1, 0), "{found:?}");
    ensure!(column(1, 1).contains("recv_fds"), "{found:?}");
    ensure!(!column(0, 1).contains("weir-passed-"), "{found:?}");
    Ok(())
}

#[test]
fn requests_over_http_and_ssh_name_the_process_that_sent_them() -> Result<()> {
    let lab = Lab::current()?;
    let http = HTTP.replace("PORT", &lab.name("LAB_CLUSTER_PORT")?);
    for (agent, script, statements) in [
        ("analyst", http.as_str(), ["app%3Dparent", "app%3Dchild"]),
        ("operator", SSH, ["echo 70501", "echo 70502"]),
    ] {
        let said = lab.python(agent, script)?;
        pids_of(&said)?;
        let mut found = Vec::new();
        for statement in statements {
            // A percent sign stands for anything there.
            let like = statement.replace('%', "_");
            found.extend(rows(&lab, "pid, ppid", &like, 1)?.into_iter().next());
        }
        let column = |row: usize, at: usize| -> &str {
            let row = found.get(row).map_or("", String::as_str);
            row.split('\t').nth(at).unwrap_or_default()
        };
        ensure!(column(0, 0) != column(1, 0), "{statements:?}: {found:?}");
        ensure!(
            column(1, 1) == column(0, 0),
            "the child's parent sent the first: {statements:?} {found:?}"
        );
    }
    Ok(())
}

#[test]
fn the_ledger_has_rows_without_a_difference() -> Result<()> {
    let lab = Lab::current()?;
    let sql = "SELECT count() > 0, countIf(difference != 0), sum(missed) FROM weir.ledger";
    for _ in 0..100 {
        if lab.store(sql)?.trim() == "1\t0\t0" {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    anyhow::bail!("{}", lab.store("SELECT * FROM weir.ledger")?)
}
