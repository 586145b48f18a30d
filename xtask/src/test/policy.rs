//! The tier `policy`: what policies answer, what reviewers decide, and how long agents wait for it.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::Outcome;
use super::tiers::in_lab_of;
use crate::lab::UpArgs;
use crate::place;
use crate::say::Step;

pub(super) const POLICY: &str = "package(/^weir-(decide|state)$/) \
    | (package(weir-e2e) & binary(/^(policy|holds)$/)) \
    | (package(weir-enforcer) & test(/(^|::)(policy|policies|examples|learn)::/))";

/// Where nodes that share approvals keep them; here a database beside the demo's.
const STATE: &str = "
  state: { kind: postgres, socket: \"${LAB_DB_SOCKET_DIR}/.s.PGSQL.${LAB_DB_PORT}\", database: postgres, user: postgres }
";

/// One lab whose approvals are in PostgreSQL: a second node is put beside it.
pub(super) fn tier(step: &Step) -> Result<Outcome> {
    let folder = place::target().join("xtask-logs");
    fs::create_dir_all(&folder).context("a folder for the configuration")?;
    let text = fs::read_to_string(place::root().join("deploy/lab/weir.yaml"));
    let text = text.context("the lab's configuration")?;
    let shared = text.replace("\napprovals:\n", &format!("\napprovals:{STATE}"));
    ensure!(shared != text, "deploy/lab/weir.yaml has no approvals");
    let config = folder.join("policy-lab.yaml");
    fs::write(&config, shared).context("the tier's configuration")?;
    let path = config.to_str().context("a path of text")?.to_owned();
    let more = [("WEIR_TIER_CONFIG", path.as_str())];
    in_lab_of(step, "policy", POLICY, &more, |args| UpArgs {
        config: Some(config),
        ..args
    })
}
