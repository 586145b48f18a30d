//! Debian packages.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;
use crate::say::Step;

/// Package and why.
const PACKAGES: [(&str, &str); 14] = [
    ("build-essential", "C parts of crates"),
    ("curl", "a plain HTTP client for tests"),
    ("iproute2", "namespaces of a lab"),
    ("kubernetes-client", "kubectl for the lab's agents"),
    ("libclang-dev", "the PostgreSQL grammar's bindings"),
    ("llvm-22-dev", "bpf-linker: the LLVM of the pinned Rust"),
    ("nodejs", "npm's runtime"),
    ("npm", "test Entra and ClickHouse engine"),
    ("openssh-client", "ssh, sftp and scp for the lab's agents"),
    ("openssh-server", "the lab's SSH host"),
    ("postgresql", "the demo database"),
    ("postgresql-client", "psql and pgbench"),
    (
        "python3-venv",
        "a PostgreSQL driver and Helm's engine for tests",
    ),
    ("util-linux", "nsenter, setpriv, setsid"),
];

/// Packages that are missing. A program that is there by other means counts.
pub(super) fn missing() -> Result<Vec<String>> {
    if !run::found("dpkg-query") {
        let programs = ["ip", "npm", "psql", "nsenter"];
        let gone: Vec<&str> = programs
            .into_iter()
            .filter(|name| !run::found(name))
            .collect();
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        bail!(
            "no apt on this machine: install {} yourself",
            gone.join(", ")
        );
    }
    let names = PACKAGES.map(|(name, _)| name);
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat",
            "${Package} ${db:Status-Status}\\n",
        ])
        .args(names)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(PACKAGES
        .iter()
        .filter(|(name, _)| !installed.contains(name) && !otherwise(name))
        .map(|(name, _)| (*name).to_owned())
        .collect())
}

/// Whether the programs of a package were installed some other way.
fn otherwise(package: &str) -> bool {
    let programs: &[&str] = match package {
        "build-essential" => &["cc", "make"],
        "curl" => &["curl"],
        "kubernetes-client" => &["kubectl"],
        "openssh-client" => &["ssh", "sftp", "scp", "ssh-keygen"],
        "nodejs" => &["node"],
        "npm" => &["npm"],
        "postgresql-client" => &["psql", "pgbench"],
        _ => return false,
    };
    programs.iter().all(|program| run::found(program))
}

pub(super) fn install(missing: &[String], step: &Step) -> Result<()> {
    let environment = [("DEBIAN_FRONTEND", "noninteractive")];
    let log = super::log("apt-update");
    run::logged(
        step,
        &log,
        Command::new("apt-get")
            .args(["update", "-q"])
            .envs(environment),
    )?;
    let log = super::log("apt-install");
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(missing);
    run::logged(step, &log, command.envs(environment))
}
