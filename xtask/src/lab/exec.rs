//! `lab exec`: enters an agent's cgroup, network and namespaces, then starts the command there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};

use super::command::ExecArgs;
use super::model::Lab;
use super::{cluster, container, host};
use crate::place;

/// Variables of the person's terminal that a container's client would have, too.
const KEPT: [&str; 8] = [
    "PATH",
    "TERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "COLORTERM",
    "PAGER",
];

/// In the agent's own /run.
const KUBECONFIG: &str = "/run/kubeconfig";

/// Runs the command and gives its exit code on (128 + signal when one ended it).
pub(crate) fn exec(args: &ExecArgs) -> Result<ExitCode> {
    place::need_root("lab exec")?;
    let lab = Lab::load(&args.name.name)?;
    let agent = lab.agent(&args.agent)?;
    let user = container::find_user(&args.user)?;

    let kubeconfig = cluster::kubeconfig(&lab);
    let ssh = host::client_files(&lab);
    // The cgroup first: sockets and processes keep the one that they were born in.
    let procs = lab
        .cgroup_mount
        .join(agent.cgroup.trim_start_matches('/'))
        .join("cgroup.procs");
    fs::write(&procs, std::process::id().to_string())
        .with_context(|| format!("joining {}", procs.display()))?;
    let netns =
        fs::File::open(&agent.netns).with_context(|| format!("{}", agent.netns.display()))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).context("entering the agent's network")?;
    drop(netns);
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .context("making the agent's namespaces")?;
    nix::unistd::sethostname(&args.agent).context("naming the host")?;
    let program = std::env::current_exe().context("finding this program")?;
    container::build_mounts()?;
    // A cluster that the configuration does not have is no reason not to run.
    if let Ok(Some(text)) = kubeconfig {
        fs::write(KUBECONFIG, text).context("the agent's kubeconfig")?;
    }
    if let Ok(Some((known_hosts, settings))) = ssh {
        host::client_settings(&known_hosts, &settings)?;
    }

    let mut command = Command::new(program);
    command
        .args([
            "lab",
            "inside",
            "--uid",
            &user.uid.to_string(),
            "--gid",
            &user.gid.to_string(),
        ])
        .arg("--")
        .args(&args.command)
        .env_clear()
        .envs(variables(&lab, args, &user.home)?);
    // Keys of the terminal go to the command, which decides; anything else that ends us ends it.
    keys().thread_block().context("blocking signals")?;
    let status = command
        .status()
        .context("starting the agent's first process")?;
    Ok(code(status))
}

/// What a terminal's keys send to the whole foreground group.
pub(super) fn keys() -> SigSet {
    let mut keys = SigSet::empty();
    keys.add(Signal::SIGINT);
    keys.add(Signal::SIGQUIT);
    keys
}

fn variables(lab: &Lab, args: &ExecArgs, home: &str) -> Result<BTreeMap<String, String>> {
    let mut variables: BTreeMap<String, String> = KEPT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let database = &lab.database;
    for (name, value) in [
        ("HOME", home.to_owned()),
        ("HOSTNAME", args.agent.clone()),
        ("PGHOST", database.addresses.v4.to_string()),
        ("PGPORT", database.port.to_string()),
        ("PGUSER", database.user.clone()),
        ("PGDATABASE", database.name.clone()),
        ("KUBECONFIG", KUBECONFIG.to_owned()),
    ] {
        variables.insert(name.to_owned(), value);
    }
    for pair in &args.envs {
        let Some((name, value)) = pair.split_once('=') else {
            bail!("--env {pair}: expected NAME=VALUE");
        };
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// As a shell reports it.
pub(crate) fn code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
