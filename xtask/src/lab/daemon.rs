//! Processes that outlive the command: started in a cgroup, known by pid and start time.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::run;

/// How long a part may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a part may take to end when asked.
const END_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(15);

/// USER_HZ, which is 100 on every architecture that Weir runs on.
const TICKS_PER_S: f64 = 100.0;

/// A process of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Clock ticks since boot (field 22 of /proc/PID/stat): tells it from a later owner of the pid.
    pub(crate) started_ticks: u64,
    pub(crate) log: PathBuf,
    pub(crate) command: Vec<String>,
}

/// What to start.
pub(crate) struct Plan<'a> {
    pub(crate) command: Vec<String>,
    pub(crate) envs: BTreeMap<String, String>,
    pub(crate) cgroup: PathBuf,
    pub(crate) log: &'a Path,
    pub(crate) folder: PathBuf,
}

/// Starts a process in its cgroup and in a session of its own.
pub(crate) fn start(plan: &Plan<'_>) -> Result<Process> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(plan.log)
        .with_context(|| format!("opening {}", plan.log.display()))?;
    let second = log.try_clone().context("a second descriptor for the log")?;
    // The cgroup is joined before the program starts: sockets keep the cgroup they were born in.
    let join = r#"echo $$ >"$0/cgroup.procs" && exec "$@""#;
    let child = Command::new("setsid")
        .args(["sh", "-c", join])
        .arg(&plan.cgroup)
        .args(&plan.command)
        .envs(&plan.envs)
        .current_dir(&plan.folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .spawn()
        .with_context(|| format!("starting {}", plan.command.join(" ")))?;
    let pid = i32::try_from(child.id()).context("a pid fits")?;
    let started_ticks = start_ticks(pid).context("the process ended at once")?;
    Ok(Process {
        pid,
        started_ticks,
        log: plan.log.to_path_buf(),
        command: plan.command.clone(),
    })
}

/// `None` for a process that is gone or a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Process {
    /// Processor time so far, user and system, seconds; without its children.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("its stat")?;
        let (_, after) = stat.rsplit_once(')').context("its name in stat")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        // Fields 14 and 15 of proc_pid_stat(5); the first behind the name is field 3.
        let ticks = |at: usize| -> Result<f64> {
            let text = fields.get(at).context("too few fields in stat")?;
            text.parse().context("a number in stat")
        };
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_S)
    }

    pub(crate) fn alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.started_ticks)
    }

    /// Waits for a line of the log (written after `from` bytes) that starts with `READY`.
    pub(crate) fn wait_ready(&self, from: u64) -> Result<String> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let text = log_after(&self.log, from);
            if let Some(line) = ready_line(&text) {
                return Ok(line.to_owned());
            }
            if !self.alive() {
                let name = self.command.join(" ");
                bail!(
                    "{name} ended at its start; log {}\n{}",
                    self.log.display(),
                    run::tail(&text)
                );
            }
            if Instant::now() > until {
                let limit = READY_WITHIN.as_secs();
                let tail = run::tail(&text);
                bail!(
                    "no READY within {limit} s; log {}\n{tail}",
                    self.log.display()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks with a signal, insists with SIGKILL; only if the pid is still ours.
    pub(crate) fn end(&self, ask: Signal) {
        if !self.alive() {
            return;
        }
        let pid = Pid::from_raw(self.pid);
        let _gone = kill(pid, ask);
        let until = Instant::now() + END_WITHIN;
        while self.alive() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
        if self.alive() {
            let _gone = kill(pid, Signal::SIGKILL);
        }
    }
}

/// A complete line that starts with `READY`; the last one may still be growing.
fn ready_line(text: &str) -> Option<&str> {
    text.split_inclusive('\n')
        .find(|line| line.starts_with("READY") && line.ends_with('\n'))
        .map(str::trim_end)
}

/// Bytes in a log now.
pub(crate) fn log_size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn log_after(path: &Path, from: u64) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

/// Waits until `done` says so.
pub(crate) fn wait_until(
    what: &str,
    within: Duration,
    mut done: impl FnMut() -> bool,
) -> Result<()> {
    let until = Instant::now() + within;
    while !done() {
        if Instant::now() > until {
            bail!("{what}: not within {} s", within.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_counts_only_when_complete() {
        assert_eq!(ready_line("x\nREADY {\"a\":1}\n"), Some("READY {\"a\":1}"));
        assert_eq!(ready_line("x\nREADY {\"a"), None);
        assert_eq!(ready_line("not READY\n"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start_and_a_zombie_is_not_alive() {
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started_ticks = start_ticks(pid).unwrap();
        let process = Process {
            pid,
            started_ticks,
            log: PathBuf::new(),
            command: vec!["sleep".into()],
        };
        assert!(process.alive());
        assert!(
            !Process {
                started_ticks: started_ticks + 1,
                ..process.clone()
            }
            .alive()
        );
        process.end(Signal::SIGTERM);
        assert!(!process.alive());
        child.wait().unwrap();
    }
}
