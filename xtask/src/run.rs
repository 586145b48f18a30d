//! Running other programs: quietly when they work, with their last lines when they do not.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::say::Step;

const TAIL_LINES: usize = 40;

/// Runs to the end; an exit code other than 0 is an error that shows the last lines.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// As [`quiet`], giving standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{name} ended with {}\n{}{}",
            output.status,
            tail(&text),
            tail(&errors)
        );
    }
    Ok(text)
}

/// Runs with its output in a log file, showing its newest line in the step.
pub(crate) fn logged(step: &Step, log: &Path, command: &mut Command) -> Result<()> {
    let name = describe(command);
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let file = std::fs::File::create(log).with_context(|| format!("making {}", log.display()))?;
    let second = file
        .try_clone()
        .context("a second descriptor for the log")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(second)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("waiting for {name}"))?
        {
            if status.success() {
                return Ok(());
            }
            bail!(
                "{name} ended with {status}; log {}\n{}",
                log.display(),
                tail(&read(log))
            );
        }
        step.at(read(log).lines().last().unwrap_or_default());
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The end of a log.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// Whether a program is found in `PATH`.
pub(crate) fn found(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// `cargo` as the one that runs us.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsStr::new("cargo").to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(crate::place::root());
    command
}

pub(crate) fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().chars().take(80).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}
