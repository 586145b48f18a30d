//! An SSH host: OpenSSH's server in the database's namespace, with an account of its own.
//!
//! The account exists only in the server's mount namespace, so that the machine's own list of
//! users stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::daemon::{self, Plan, log_size};
use super::model::Lab;
use super::{agents, container, network};
use crate::run;

/// The account, its user and group number.
const ACCOUNT: &str = "deploy";
const NUMBER: u32 = 64_222;
const PORT: u16 = 22;
/// A name for agents, besides the address.
const NAME: &str = "host.demo.internal";

/// The SSH host of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    pub(crate) home: PathBuf,
    /// The server's public key, by which Weir proves it.
    pub(crate) keys_file: PathBuf,
    /// The credential that Weir holds.
    pub(crate) key_file: PathBuf,
    /// The server's own log: every command, every file.
    pub(crate) log: PathBuf,
}

impl Host {
    pub(crate) fn plan(state_dir: &Path) -> Self {
        let folder = state_dir.join("host");
        Self {
            name: NAME.to_owned(),
            account: ACCOUNT.to_owned(),
            port: PORT,
            home: folder.join("home"),
            keys_file: folder.join("host_key.pub"),
            key_file: state_dir.join("secrets/host-login"),
            log: state_dir.join("log/sshd.log"),
            folder,
        }
    }
}

fn new_key(path: &Path) -> Result<()> {
    run::quiet(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "weir-lab", "-f"])
            .arg(path),
    )
}

/// Starts the server and waits until it listens.
pub(crate) fn start(lab: &mut Lab) -> Result<()> {
    let host = lab.ssh_host.clone();
    for folder in [&host.folder, &host.home] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).context("a folder")?;
    }
    chown(&host.home, Some(NUMBER), Some(NUMBER)).context("owning the home")?;
    new_key(&host.folder.join("host_key"))?;
    new_key(&host.key_file)?;
    let public = host.key_file.with_extension("pub");
    fs::copy(&public, host.folder.join("authorized_keys")).context("the account's key")?;
    let write = |name: &str, text: String| {
        let path = host.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    write("sshd_config", settings(lab))?;
    let home = host.home.display();
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let account = format!("{ACCOUNT}:x:{NUMBER}:{NUMBER}:weir lab:{home}:/bin/bash\n");
    write("passwd", users + &account)?;
    let groups = fs::read_to_string("/etc/group").context("reading /etc/group")?;
    write("group", format!("{groups}{ACCOUNT}:x:{NUMBER}:\n"))?;
    fill(&host)?;
    let from = log_size(&host.log);
    let script = "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/group\" /etc/group \
                  && mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f \"$0/sshd_config\"";
    let process = daemon::start(&Plan {
        command: [
            "nsenter",
            &format!("--net={}", lab.database.netns.display()),
            "unshare",
            "--mount",
            "sh",
            "-c",
            script,
            &host.folder.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec(),
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &host.log,
        folder: PathBuf::from("/"),
    })?;
    lab.processes.insert("sshd".to_owned(), process.clone());
    lab.save()?;
    daemon::wait_until("sshd listens", std::time::Duration::from_secs(60), || {
        let text = fs::read(&host.log).unwrap_or_default();
        let from = usize::try_from(from).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(from..).unwrap_or(&[])).into_owned();
        !process.alive() || text.matches("Server listening").count() >= 3
    })?;
    anyhow::ensure!(process.alive(), "sshd ended; log {}", process.log.display());
    Ok(())
}

fn settings(lab: &Lab) -> String {
    let addresses = network::addresses(lab.number, network::DATABASE);
    let folder = lab.ssh_host.folder.display();
    format!(
        "Port {PORT}\nListenAddress {}\nListenAddress {}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n\
         AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n\
         LogLevel VERBOSE\nMaxStartups 100\nMaxSessions 100\nAllowTcpForwarding yes\n\
         PermitTTY yes\nPrintMotd no\nPrintLastLog no\nAcceptEnv LANG LC_*\n\
         Subsystem sftp internal-sftp -l VERBOSE\n",
        addresses.v4, addresses.v6
    )
}

/// Looks like a key of a cloud, and is none; in two parts for those who look for such.
pub(crate) const SECRET: &str = concat!("AKIA", "ZQ3DRSTUVWXY2345");

/// What an agent finds there.
fn fill(host: &Host) -> Result<()> {
    let conf = format!("listen=8080\nadmin_contact=ops@shop.example\naws_access_key_id={SECRET}\n");
    let files = [
        ("app.log", "2026-11-24 started\n2026-11-24 order 17 paid\n"),
        ("app.conf", conf.as_str()),
        ("README", "The application runs here.\n"),
    ];
    for (name, text) in files {
        let path = host.home.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        chown(&path, Some(NUMBER), Some(NUMBER)).context("owning a file")?;
    }
    Ok(())
}

/// `known_hosts` and client settings, as a platform team would roll them out; `None` when the
/// configuration has no such target.
pub(crate) fn client_files(lab: &Lab) -> Result<Option<(String, String)>> {
    let Some(weir) = &lab.weir else {
        return Ok(None);
    };
    let known_hosts = run::output(
        Command::new(&weir.binary)
            .args(["ca", "known-hosts", "--config"])
            .arg(&weir.config),
    )
    .context("known_hosts for the agent")?;
    let settings = format!(
        "GlobalKnownHostsFile /run/ssh/known_hosts\nHost {NAME}\n  HostName {}\n  User {ACCOUNT}\n",
        lab.database.addresses.v4
    );
    Ok(Some((known_hosts, settings)))
}

/// Puts a platform team's SSH files in place: client settings over Debian's folder for them.
pub(crate) fn client_settings(known_hosts: &str, settings: &str) -> Result<()> {
    let (folder, parts) = (Path::new("/run/ssh"), Path::new("/run/ssh/config.d"));
    fs::create_dir_all(parts).context("making /run/ssh")?;
    fs::write(folder.join("known_hosts"), known_hosts).context("the agent's known_hosts")?;
    fs::write(parts.join("weir.conf"), settings).context("the agent's SSH settings")?;
    let place = Path::new("/etc/ssh/ssh_config.d");
    if place.is_dir() {
        container::bind(parts, place)?;
    }
    Ok(())
}
