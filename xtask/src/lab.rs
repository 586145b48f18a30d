//! `cargo xtask lab`: a whole node on real parts, as many side by side as wanted.

pub(crate) mod agents;
mod certificate;
mod cluster;
mod command;
mod console;
mod container;
pub(crate) mod daemon;
pub(crate) mod database;
mod down;
mod entra;
mod env;
pub(crate) mod exec;
mod host;
pub(crate) mod model;
pub(crate) mod names;
mod network;
mod outside;
mod plan;
pub(crate) mod secret;
mod store;
pub(crate) mod up;
pub(crate) mod weir;

use std::process::ExitCode;

use anyhow::Result;

pub(crate) use command::{LabCommand, UpArgs};
pub(crate) use down::{down, keep_logs};
pub(crate) use env::sign_in;
pub(crate) use host::SECRET as HOST_SECRET;
pub(crate) use model::Lab;
pub(crate) use outside::{Paths, direct, governed};

/// Runs one `lab` command.
pub(crate) fn run(command: LabCommand) -> Result<ExitCode> {
    match command {
        LabCommand::Inside(args) => return container::inside(&args),
        LabCommand::Exec(args) => return exec::exec(&args),
        LabCommand::Up(args) => {
            let lab = up::up(&args)?;
            let name = if lab.name == "default" {
                String::new()
            } else {
                format!("--name {} ", lab.name)
            };
            crate::say::note(format!(
                "cargo xtask lab exec {name}--agent analyst -- psql"
            ));
        }
        LabCommand::Down { name, all } => down::run(&name.name, all)?,
        LabCommand::Env { name, json } => env::env(&name.name, json)?,
        LabCommand::Status { name } => return env::status(&name.name),
        LabCommand::Start { name, process } => match process.as_deref() {
            Some("store") => store::start_again(&name.name)?,
            process => {
                if process.is_none() {
                    store::start_again(&name.name)?;
                }
                weir::start_again(&name.name, process)?;
            }
        },
        LabCommand::RestartBroker { name, kill } => weir::restart_broker(&name.name, kill)?,
        LabCommand::Upgrade { name } => weir::upgrade(&name.name)?,
        LabCommand::Login { name, user } => sign_in(&Lab::load(&name.name)?, &user)?,
    }
    Ok(ExitCode::SUCCESS)
}
