//! Configuration, broker and node of a lab.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::daemon::{self, Plan, log_size};
use super::model::{Lab, Weir};
use super::{agents, names};
use crate::binaries::Binaries;
use crate::{place, run};

/// Both processes, in the order in which they start.
const PROCESSES: [&str; 2] = ["broker", "node"];

/// Where the files come from; defaults are in `deploy/`.
pub(crate) struct Sources {
    pub(crate) config: Option<PathBuf>,
    pub(crate) policies: Option<PathBuf>,
}

/// Writes the configuration; nothing is started.
pub(crate) fn configure(lab: &mut Lab, sources: &Sources, binaries: &Binaries) -> Result<()> {
    let etc = lab.state_dir.join("etc");
    let policies = etc.join("policies");
    fs::create_dir_all(&policies).with_context(|| format!("making {}", policies.display()))?;
    let state_dir = lab.state_dir.join("weir");
    let run_dir = lab.run_dir.join("weir");
    lab.weir = Some(Weir {
        binary: binaries.weir.clone(),
        config: etc.join("weir.yaml"),
        policies: policies.clone(),
        admin_socket: run_dir.join("admin.sock"),
        admin_http: format!("127.0.0.1:{}", free_port()?),
        spool: state_dir.join("node/spool"),
        state_dir,
        run_dir,
    });
    lab.save()?;
    let names = names::names(lab);
    let or = |given: &Option<PathBuf>, default: &str| {
        given.clone().unwrap_or_else(|| place::root().join(default))
    };
    let config = or(&sources.config, "deploy/lab/weir.yaml");
    copy_with_names(&config, &etc.join("weir.yaml"), &names)?;
    let folder = or(&sources.policies, "deploy/policies");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("reading policies {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("reading {}", folder.display()))?
            .path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            copy_with_names(&path, &policies.join(name), &names)?;
        }
    }
    Ok(())
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    Ok(listener.local_addr().context("finding a free port")?.port())
}

/// Copies a file with the lab's names put in.
pub(crate) fn copy_with_names(
    from: &Path,
    to: &Path,
    names: &BTreeMap<String, String>,
) -> Result<()> {
    let text = fs::read_to_string(from).with_context(|| format!("reading {}", from.display()))?;
    let text = substitute(&text, names).with_context(|| from.display().to_string())?;
    fs::write(to, text).with_context(|| format!("writing {}", to.display()))
}

/// Replaces `${NAME}`; a name that the lab does not have is an error.
fn substitute(text: &str, names: &BTreeMap<String, String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').context("'${' without '}'")?;
        let Some(value) = names.get(name) else {
            bail!("${{{name}}} is no name of the lab (cargo xtask lab env prints them)");
        };
        out.push_str(before);
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Brings the store's schema up to date.
pub(crate) fn migrate(lab: &Lab) -> Result<()> {
    let weir = lab
        .weir
        .as_ref()
        .context("this lab was brought up without Weir")?;
    run::quiet(
        std::process::Command::new(&weir.binary)
            .args(["db", "migrate", "--config"])
            .arg(&weir.config),
    )
}

/// Starts the broker, then the node, each until it says READY.
pub(crate) fn start(lab: &mut Lab) -> Result<()> {
    for process in PROCESSES {
        start_one(lab, process)?;
    }
    Ok(())
}

fn start_one(lab: &mut Lab, process: &str) -> Result<()> {
    let weir = lab
        .weir
        .as_ref()
        .context("this lab was brought up without Weir")?;
    let log = lab.log(process);
    let from = log_size(&log);
    let started = daemon::start(&Plan {
        command: vec![
            weir.binary.display().to_string(),
            process.to_owned(),
            "--config".to_owned(),
            weir.config.display().to_string(),
        ],
        envs: BTreeMap::from([("RUST_BACKTRACE".to_owned(), "1".to_owned())]),
        cgroup: lab.cgroup_path(agents::ENFORCER),
        log: &log,
        folder: PathBuf::from("/"),
    })?;
    lab.processes.insert(process.to_owned(), started.clone());
    lab.save()?;
    started.wait_ready(from).map(drop)
}

/// Starts what has ended; a process that runs is left alone.
pub(crate) fn start_again(name: &str, process: Option<&str>) -> Result<()> {
    let mut lab = Lab::load(name)?;
    let wanted: Vec<&str> = match process {
        None => PROCESSES.to_vec(),
        Some(one) if PROCESSES.contains(&one) => vec![one],
        Some(other) => bail!("'{other}' is neither broker nor node"),
    };
    for process in wanted {
        if !lab
            .processes
            .get(process)
            .is_some_and(daemon::Process::alive)
        {
            start_one(&mut lab, process)?;
        }
    }
    Ok(())
}

/// Ends the broker and starts another one.
pub(crate) fn restart_broker(name: &str, insist: bool) -> Result<()> {
    let mut lab = Lab::load(name)?;
    if let Some(broker) = lab.processes.get("broker") {
        broker.end(if insist {
            Signal::SIGKILL
        } else {
            Signal::SIGTERM
        });
    }
    start_one(&mut lab, "broker")
}

/// Starts another node; the one before it is kept as `node-PID` until it has drained.
pub(crate) fn upgrade(name: &str) -> Result<()> {
    let mut lab = Lab::load(name)?;
    lab.processes
        .retain(|name, process| !name.starts_with("node-") || process.alive());
    if let Some(before) = lab.processes.remove("node") {
        lab.processes.insert(format!("node-{}", before.pid), before);
    }
    start_one(&mut lab, "node")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_unknown_ones_refused() {
        let names = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(substitute("x ${A}-${A} $B", &names).unwrap(), "x 1-1 $B");
        assert!(
            substitute("${C}", &names)
                .unwrap_err()
                .to_string()
                .contains("${C}")
        );
        assert!(substitute("${A", &names).is_err());
    }
}
