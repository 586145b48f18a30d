//! PostgreSQL 15 or newer in a namespace of its own, with the demo database.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::User;

use super::daemon::{self, Plan};
use super::model::Lab;
use super::secret::{kept_word, write_private};
use super::{agents, certificate};
use crate::{place, run};

/// The system user that runs the server; PostgreSQL refuses root.
const OWNER: &str = "postgres";

/// Initialises, starts and fills the server, whose socket is for nodes that keep approvals there, too.
pub(crate) fn start(lab: &mut Lab) -> Result<()> {
    let owner = User::from_name(OWNER)
        .context("looking up the user postgres")?
        .context("no user postgres (package postgresql)")?;
    let binaries = binaries()?;
    let data = lab.state_dir.join("postgres");
    for (folder, mode) in [(&data, 0o700), (&lab.database.socket_dir, 0o711)] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        chown(folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
            .with_context(|| format!("owning {}", folder.display()))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode))
            .with_context(|| format!("protecting {}", folder.display()))?;
    }
    let as_owner = [
        "setpriv",
        "--reuid",
        OWNER,
        "--regid",
        OWNER,
        "--init-groups",
    ];
    run::quiet(
        Command::new(as_owner[0])
            .args(&as_owner[1..])
            .arg(binaries.join("initdb"))
            .args(["--pgdata".as_ref(), data.as_os_str()])
            .args([
                "--username",
                OWNER,
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--no-sync",
            ])
            .args(["--auth-local", "trust", "--auth-host", "scram-sha-256"])
            .current_dir("/"),
    )?;
    certificate::make(lab, &owner, &data)?;
    fs::write(data.join("postgresql.auto.conf"), settings(lab)).context("writing settings")?;
    fs::write(data.join("pg_hba.conf"), hba(lab)).context("writing pg_hba.conf")?;

    let mut command: Vec<String> = vec![
        "nsenter".into(),
        format!("--net={}", lab.database.netns.display()),
    ];
    command.extend(as_owner.map(str::to_owned));
    command.push(binaries.join("postgres").display().to_string());
    command.extend(["-D".to_owned(), data.display().to_string()]);
    let log = lab.database.log.clone();
    let process = daemon::start(&Plan {
        command,
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &log,
        folder: PathBuf::from("/"),
    })?;
    lab.processes.insert("postgres".to_owned(), process);
    lab.save()?;
    wait_answering(lab, &binaries)?;
    fill(lab, &binaries)
}

fn settings(lab: &Lab) -> String {
    let addresses = lab.database.addresses;
    format!(
        "# A lab: quick to start and to throw away, so nothing is synced to disk.\n\
         listen_addresses = '{},{}'\nport = {}\nunix_socket_directories = '{}'\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n\
         max_connections = 500\nshared_buffers = 128MB\nautovacuum = off\njit = off\nmax_prepared_transactions = 20\n\
         password_encryption = scram-sha-256\n\
         ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n\
         log_statement = all\nlog_line_prefix = '%m [%p] %u@%d %h '\nlog_timezone = UTC\n",
        addresses.v4,
        addresses.v6,
        lab.database.port,
        lab.database.socket_dir.display()
    )
}

/// Whoever comes over the network without TLS is turned away, unless the lab is without.
fn hba(lab: &Lab) -> String {
    let host = if lab.database.tls { "hostssl" } else { "host" };
    format!(
        "local all all trust\n{host} all all 0.0.0.0/0 scram-sha-256\n\
         {host} all all ::/0 scram-sha-256\n"
    )
}

/// Debian keeps the server's programs outside PATH.
pub(crate) fn binaries() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| {
                    let version = entry.file_name().to_str()?.parse().ok()?;
                    Some((version, entry.path().join("bin")))
                })
                .filter(|(_, folder)| folder.join("postgres").exists())
                .collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions
        .pop()
        .map(|(_, folder)| folder)
        .context("no PostgreSQL server (cargo xtask setup)")
}

pub(crate) fn psql(lab: &Lab, binaries: &Path, database: &str) -> Command {
    let mut command = Command::new(binaries.join("psql"));
    command
        .args([
            "--no-psqlrc",
            "--quiet",
            "--set",
            "ON_ERROR_STOP=1",
            "--username",
            OWNER,
        ])
        .args(["--host".as_ref(), lab.database.socket_dir.as_os_str()])
        .args([
            "--port",
            &lab.database.port.to_string(),
            "--dbname",
            database,
        ])
        .current_dir("/");
    command
}

fn wait_answering(lab: &Lab, binaries: &Path) -> Result<()> {
    let process = lab
        .processes
        .get("postgres")
        .context("the server was started")?;
    daemon::wait_until("PostgreSQL answers", Duration::from_secs(120), || {
        !process.alive()
            || psql(lab, binaries, "postgres")
                .args(["-c", "select 1"])
                .output()
                .is_ok_and(|output| output.status.success())
    })?;
    anyhow::ensure!(
        process.alive(),
        "PostgreSQL ended; log {}",
        process.log.display()
    );
    Ok(())
}

/// The roles (one for members of a group), the database and its tables; the same rows each time.
fn fill(lab: &Lab, binaries: &Path) -> Result<()> {
    let (user, name) = (&lab.database.user, &lab.database.name);
    let password = kept_word(&lab.database.password_file)?;
    let reporter = kept_word(&lab.secrets().join("reporter-password"))?;
    let script = lab.secrets().join("role.sql");
    write_private(
        &script,
        format!(
            "set log_statement = none;\n\
             create role {user} login password '{password}';\n\
             create role weir_reporter login password '{reporter}' in role {user};\n\
             create database {name} owner {user};\n"
        )
        .as_bytes(),
    )?;
    run::quiet(psql(lab, binaries, "postgres").arg("--file").arg(&script))?;
    fs::remove_file(&script).context("removing the role script")?;
    let shop = place::root().join("deploy/lab/shop.sql");
    run::quiet(
        psql(lab, binaries, name)
            .args(["--set", &format!("owner={user}")])
            .arg("--file")
            .arg(shop),
    )
}
