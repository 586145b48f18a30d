//! `cargo xtask setup`: what builds and tests need, installed by its ordinary package client.
//!
//! Every check is made each time and takes milliseconds; nothing is remembered, so nothing is
//! believed that is no longer true.

mod apt;
mod engine;
mod node;
mod python;
mod rust;
mod space;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{run, say};

pub(crate) use engine::library as engine_library;
pub(crate) use node::binary as node_binary;
pub(crate) use python::{binary as python_binary, binary_with as python_with};

/// What a command needs; the rest is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// cargo-nextest.
    pub(crate) tests: bool,
}

impl Need {
    /// A lab: build tools, PostgreSQL, test Entra, ClickHouse engine.
    pub(crate) fn lab() -> Self {
        Self { tests: false }
    }

    pub(crate) fn everything() -> Self {
        Self { tests: true }
    }
}

/// One part of the set-up: a look and, when something is missing, an installation.
struct Part {
    name: &'static str,
    missing: fn() -> Result<Vec<String>>,
    install: fn(&[String], &say::Step) -> Result<()>,
}

const PARTS: [Part; 6] = [
    Part {
        name: "system packages",
        missing: apt::missing,
        install: apt::install,
    },
    Part {
        name: "Rust component rust-src",
        missing: rust::src_missing,
        install: rust::add_src,
    },
    Part {
        name: "bpf-linker",
        missing: rust::linker_missing,
        install: rust::install_linker,
    },
    Part {
        name: "test Entra (npm)",
        missing: node::missing,
        install: node::install,
    },
    Part {
        name: "test Python",
        missing: python::missing,
        install: python::install,
    },
    Part {
        name: "ClickHouse engine",
        missing: engine::missing,
        install: engine::install,
    },
];

const NEXTEST: Part = Part {
    name: "cargo-nextest",
    missing: rust::nextest_missing,
    install: rust::install_nextest,
};

/// Installs what is missing and says what that is.
pub(crate) fn run(need: Need) -> Result<()> {
    space::check()?;
    let extra = need.tests.then_some(NEXTEST);
    for part in PARTS.into_iter().chain(extra) {
        let missing = (part.missing)()?;
        if missing.is_empty() {
            continue;
        }
        let step = say::step(format!("install {}", part.name));
        say::note(format!("{}: {}", part.name, missing.join(" ")));
        (part.install)(&missing, &step)?;
        step.done("");
    }
    Ok(())
}

/// Installs packages whose programs, or files by their paths, are missing: what one command needs and
/// most never will.
pub(crate) fn also(packages: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<String> = packages
        .iter()
        .filter(|(_, program)| !run::found(program) && !Path::new(program).is_file())
        .map(|(package, _)| (*package).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let step = say::step(format!("install {}", missing.join(" ")));
    apt::install(&missing, &step)?;
    step.done("");
    Ok(())
}

/// Where the output of a long installation goes.
fn log(name: &str) -> PathBuf {
    crate::place::target().join(format!("xtask-logs/setup-{name}.log"))
}
