//! `cargo xtask quickstart`: from a fresh machine to a whole node that shows what it does.

mod cluster;
mod evidence;
mod held;
mod host;
mod said;
mod scene;
mod story;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::lab::{self, Lab, up};
use crate::{place, say, setup};
use scene::Scene;

/// The lab that the demonstration runs in.
const NAME: &str = "quickstart";

#[derive(Args)]
#[command(after_help = "Examples:\n  cargo xtask quickstart\n  cargo xtask quickstart --keep")]
pub(crate) struct QuickstartArgs {
    /// Leave the node running
    #[arg(long)]
    keep: bool,
}

/// Ends with 0 only when every step showed what it should.
pub(crate) fn run(args: &QuickstartArgs) -> Result<ExitCode> {
    place::need_root("the quickstart")?;
    let started = Instant::now();
    say::heading("Set-up: system packages, toolchain, test Entra, ClickHouse engine");
    setup::run(setup::Need::lab())?;
    say::note("nothing is missing");
    if let Ok(old) = Lab::load(NAME) {
        say::heading("An earlier quickstart is still up");
        lab::down(&old)?;
    }
    say::heading("A node on real parts");
    let lab = up::up(&up::default_args(NAME))?;
    let mut scene = Scene::new(&lab);
    let told = story::tell(&mut scene);
    say::heading("Summary");
    for line in scene.summary() {
        say::note(line);
    }
    if args.keep {
        say::heading("The node is left running (cargo xtask lab down --name quickstart ends it):");
        say::note("cargo xtask lab exec --name quickstart --agent analyst -- psql");
        say::note("cargo xtask lab env --name quickstart");
        if let Some(console) = &lab.console {
            let text = "alice reviews, dora audits, erin administers";
            say::note(format!("the web console: {} ({text})", console.url));
        }
    } else {
        say::heading("Cleaning up");
        lab::down(&lab)?;
    }
    told?;
    let wrong = scene.failures();
    say::heading(format!(
        "{} passed, {wrong} failed; {}",
        scene.shown() - wrong,
        say::seconds(started.elapsed())
    ));
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
