//! Drives a running lab from outside: commands inside agents, the `weir` command line, the server's
//! own view. Started by `cargo xtask test --tier e2e`, which brings one lab up for all tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests of the whole product: they wait by the wall clock and are told their lab by the environment"
)]

pub mod browser;
pub mod cluster;
pub mod dns;
pub mod engine;
pub mod fakes;
pub mod lab;
pub mod leak;
pub mod live;
pub mod made;
pub mod wire;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A shell command that prints 60 MB by chance which no detector takes for a secret: the letters `a` to
/// `p`. Of as many random bytes, some would be masked.
pub const LETTERS: &str =
    "head -c 30000000 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' | tr 0-9 g-p";

/// Asks until an answer comes; the limit is for failures, not a wait.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let limit = Instant::now() + within;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > limit {
            bail!("{what}: nothing within {} s", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
