//! What an agent cannot reach, whatever its user: the host's bpffs, cgroups, spool, sockets, keys.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::Lab;

/// Fails inside the agent for every way out that works, naming it.
const TRIES: &str = "
import os, socket, sys
found = []
def attempt(name, action):
    try:
        if action():
            found.append(name)
    except OSError:
        pass
for folder in ('/sys/fs/bpf', '/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/var/lib/weir-lab', '/run/weir-lab', '/run/netns', '/var/lib/weir', '/etc/weir'):
    attempt('list ' + folder, lambda: os.listdir(folder))
for path in PATHS:
    attempt('see ' + path, lambda: os.lstat(path))
attempt('write cgroup', lambda: open('/sys/fs/cgroup/cgroup.procs', 'w').write('1'))
attempt('write core_pattern', lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x'))
attempt('sysrq', lambda: open('/proc/sysrq-trigger', 'w').write('h'))
def disk():
    path = '/tmp/weir-e2e-node'
    try:
        os.mknod(path, 0o60600, os.makedev(*map(int, open('/proc/self/mountinfo').readline().split()[2].split(':'))))
        return open(path, 'rb').read(16)
    finally:
        if os.path.lexists(path):
            os.unlink(path)
attempt('read the disk', disk)
attempt('other processes', lambda: [p for p in os.listdir('/proc') if p.isdigit() and 'weir\\0node' in open(f'/proc/{p}/cmdline').read()])
attempt('remount', lambda: os.system('mount -t bpf bpf /mnt 2>/dev/null || mount -t cgroup2 none /mnt 2>/dev/null') == 0)
attempt('enter the host', lambda: os.system('nsenter --net=/proc/1/ns/net --mount=/proc/1/ns/mnt true 2>/dev/null') == 0)
attempt('change links', lambda: os.system('ip link set eth0 down 2>/dev/null') == 0)
def admin():
    s = socket.socket(socket.AF_UNIX); s.connect(SOCKET); return True
attempt('admin socket', admin)
def tcp(port):
    socket.create_connection(('127.0.0.1', port), timeout=2).close(); return True
for port in PORTS:
    attempt(f'loopback port {port}', lambda: tcp(port))
print('\\n'.join(found) or 'nothing')
";

#[test]
fn an_agent_reaches_nothing_of_the_host() -> Result<()> {
    let lab = Lab::current()?;
    let paths: Vec<String> = [
        "LAB_ADMIN_SOCKET",
        "LAB_SPOOL",
        "LAB_DB_PASSWORD_FILE",
        "LAB_OPERATOR_TOKEN_FILE",
        "LAB_ANALYST_TOKEN_FILE",
        "LAB_CONFIG",
        "LAB_POLICIES",
        "LAB_DB_SOCKET_DIR",
        "LAB_PINS",
    ]
    .into_iter()
    .map(|name| lab.name(name))
    .collect::<Result<_>>()?;
    let ports: Vec<String> = ["LAB_CLICKHOUSE_URL", "LAB_AUTHORITY", "LAB_ADMIN_HTTP"]
        .into_iter()
        .map(|name| {
            Ok(lab
                .name(name)?
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .to_owned())
        })
        .collect::<Result<_>>()?;
    let script = TRIES
        .replace("PATHS", &format!("{paths:?}"))
        .replace("SOCKET)", &format!("{:?})", lab.name("LAB_ADMIN_SOCKET")?))
        .replace("PORTS", &format!("[{}]", ports.join(", ")));
    let said = lab.python("analyst", &script)?;
    ensure!(said.out.trim() == "nothing", "the agent could: {said:?}");
    Ok(())
}

#[test]
fn the_same_tries_succeed_on_the_host() -> Result<()> {
    // The control: what the test looks for is there, only not for agents.
    let lab = Lab::current()?;
    for name in [
        "LAB_ADMIN_SOCKET",
        "LAB_SPOOL",
        "LAB_DB_PASSWORD_FILE",
        "LAB_PINS",
    ] {
        let path = lab.name(name)?;
        ensure!(
            std::fs::symlink_metadata(&path).is_ok(),
            "{path} is not there"
        );
    }
    Ok(())
}

#[test]
fn a_command_runs_as_in_a_container() -> Result<()> {
    let lab = Lab::current()?;
    let script = "cat /proc/self/status | grep CapBnd; hostname; echo \"$PGHOST\"; \
                  ls /proc | grep -c '^[0-9]*$'; exit 7";
    let said = lab.exec("operator", &["sh", "-c", script], "")?;
    let lines: Vec<&str> = said.out.lines().collect();
    ensure!(said.code == 7, "{said:?}");
    ensure!(
        lines[0].ends_with("00000000a80425fb"),
        "containerd's default capabilities: {said:?}"
    );
    ensure!(
        lines[1] == "operator" && lines[2] == lab.name("LAB_DB_V4")?,
        "{said:?}"
    );
    ensure!(lines[3].parse::<u32>()? < 10, "own pid namespace: {said:?}");
    Ok(())
}

/// A file system of the host's below a folder that agents share.
struct Mounted(PathBuf);

impl Mounted {
    fn below(folder: &Path) -> Result<Self> {
        let point = folder.join(format!("weir-e2e-mount-{}", std::process::id()));
        std::fs::create_dir(&point)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "weir-e2e"])
            .arg(&point)
            .status()?;
        ensure!(status.success(), "mounting {}", point.display());
        Ok(Self(point))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _umounted = Command::new("umount").arg(&self.0).status();
        let _removed = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn what_is_mounted_below_a_shared_folder_has_no_devices_either() -> Result<()> {
    let lab = Lab::current()?;
    let mounted = Mounted::below(Path::new("/tmp"))?;
    let point = mounted.0.to_str().context("a path of ours")?;
    let script = format!("grep ' {point} ' /proc/self/mountinfo | tail -n 1 | cut -d' ' -f6");
    let said = lab.exec("analyst", &["sh", "-c", &script], "")?;
    ensure!(said.code == 0, "{said:?}");
    ensure!(
        said.out.split(',').any(|flag| flag.trim() == "nodev"),
        "{said:?}"
    );
    Ok(())
}
