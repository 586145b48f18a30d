//! The tiers of identity: `identity` against the test Entra, `live` against a real tenant.
//!
//! The second one is on request only. Without its settings it is listed as not run, with what it
//! needs; it never counts as passed.

use std::env;

use anyhow::Result;

use super::Outcome;
use super::nextest::nextest;
use super::tiers::{IDENTITY, in_lab_of};
use crate::lab::UpArgs;
use crate::place;
use crate::say::Step;

pub(super) const FILTER: &str = "package(weir-identify) & binary(live)";

/// What every part needs.
const NEEDED: [&str; 4] = [
    "ENTRA_LIVE_TENANT",
    "ENTRA_LIVE_AUDIENCE",
    "ENTRA_LIVE_CLIENT_ID",
    "ENTRA_LIVE_CERTIFICATE_FILE",
];

/// Parts that need more: the prefix of their tests, the variable, and what is checked.
const PARTS: [(&str, &str, &str); 4] = [
    (
        "federated_",
        "ENTRA_LIVE_FEDERATED_TOKEN_FILE",
        "federation, azpacr, AADSTS700211 to 700213",
    ),
    (
        "agent_id_",
        "ENTRA_LIVE_BLUEPRINT",
        "Agent ID on an own API, xms claims",
    ),
    (
        "graph_",
        "ENTRA_LIVE_GRAPH",
        "Graph's hosts, groups of a principal, accountEnabled",
    ),
    (
        "managed_",
        "ENTRA_LIVE_MANAGED_CLIENT_ID",
        "the machine's metadata service",
    ),
];

/// Two tenants, targets that take tokens, and places where somebody else answers.
pub(super) fn test_entra(step: &Step) -> Result<Outcome> {
    let folder = place::root().join("tests/e2e");
    in_lab_of(step, "identity", IDENTITY, &[], |args| UpArgs {
        config: Some(folder.join("config/identity.yaml")),
        policies: Some(folder.join("policies/identity")),
        ..args
    })
}

fn given(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

pub(super) fn tenant(step: &Step) -> Result<Outcome> {
    if env::var("ENTRA_LIVE").as_deref() != Ok("1") {
        let parts: Vec<&str> = PARTS.iter().map(|(_, _, what)| *what).collect();
        return Ok(Outcome::NotRun(format!(
            "a real tenant is asked only with ENTRA_LIVE=1 and {}; it would check discovery, keys, \
             clock, token shape, AADSTS numbers; {} (CONTRIBUTING.md)",
            NEEDED.join(", "),
            parts.join("; ")
        )));
    }
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !given(name)).collect();
    if !missing.is_empty() {
        return Ok(Outcome::CannotRun(format!(
            "{} not set",
            missing.join(", ")
        )));
    }
    let mut filter = FILTER.to_owned();
    for (prefix, variable, what) in PARTS {
        if !given(variable) {
            crate::say::note(format!("live: without {variable}, not run: {what}"));
            filter.push_str(&format!(" - test(/^{prefix}/)"));
        }
    }
    nextest(step, "live", &filter, &[("NEXTEST_PROFILE", "live")])
}
