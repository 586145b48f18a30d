//! What a command said, and waiting for an answer.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::say;

/// What a command said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Said {
    pub(super) fn has(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }
}

/// Collects what a child said.
pub(super) fn finish(child: Child) -> Result<Said> {
    let output = child.wait_with_output().context("waiting for a command")?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

pub(super) fn show(said: &Said) {
    const LINES: usize = 24;
    for line in said.out.lines().chain(said.err.lines()).take(LINES) {
        say::note(format!("    {line}"));
    }
}

/// Asks again until an answer comes.
pub(super) fn until<T>(within: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let limit = Instant::now() + within;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > limit {
            bail!("nothing within {} s", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
