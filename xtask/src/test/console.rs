//! The tier `console`: pages by HTTP, notifiers against stand-ins, and a real browser in a lab.

use std::fs;

use anyhow::{Context, Result};

use super::Outcome;
use super::tiers::in_lab_of;
use crate::lab::UpArgs;
use crate::say::Step;
use crate::{place, setup};

pub(super) const CONSOLE: &str =
    "package(weir-console) | package(weir-notify) | (package(weir-e2e) & binary(console))";

/// What most never need, so that `setup` leaves it out.
const PACKAGES: [(&str, &str); 2] = [
    ("chromium", "chromium"),
    ("chromium-driver", "chromedriver"),
];

/// The ports of `tests/e2e/tests/console.rs`, where its stand-ins listen.
const NOTIFIERS: &str = "
  notifiers:
    - { name: hook, kind: webhook, url: http://127.0.0.1:5397/hook, secret_file: ${LAB_SECRETS}/console-secret }
    - { name: chat, kind: slack, url: http://127.0.0.1:5397/api, channel: C1,
        token_file: ${LAB_SECRETS}/console-secret, signing_secret_file: ${LAB_SECRETS}/console-secret }
";

/// One lab whose console speaks TLS on an address that agents can name.
pub(super) fn tier(step: &Step) -> Result<Outcome> {
    setup::also(&PACKAGES)?;
    let folder = place::target().join("xtask-logs");
    fs::create_dir_all(&folder).context("a folder for the configuration")?;
    let text = fs::read_to_string(place::root().join("deploy/lab/weir.yaml"));
    let text = text.context("the lab's configuration")?;
    let told = text.replace("\napprovals:\n", &format!("\napprovals:{NOTIFIERS}"));
    let config = folder.join("console-lab.yaml");
    fs::write(&config, told).context("the tier's configuration")?;
    in_lab_of(step, "console", CONSOLE, &[], |args| UpArgs {
        config: Some(config),
        console_tls: true,
        ..args
    })
}
