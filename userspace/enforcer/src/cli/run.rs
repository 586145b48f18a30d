//! `weir run`: signs a person in, becomes governed, becomes the command.
//!
//! The command replaces this process, so its exit code, signals and terminal are its own.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::unistd::{User, initgroups, setgid, setuid};

use super::ConfigArg;
use super::browser::{self, WayArgs};
use crate::admin::api::{LoginStart, LoginState, RunBody, RunBrowserBody, Who};
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Runs as root (the admin socket is root's) and drops to --user.\n\nExamples:\n  \
    sudo weir run --user \"$USER\" --agent laptop -- claude\n  \
    sudo weir run --device --user \"$USER\" -- claude\n  \
    sudo weir run --user \"$USER\" --agent laptop -- psql -h db.internal"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    way: WayArgs,
    /// Which workload the process tree becomes; one with identity.kind person
    #[arg(long, default_value = "laptop", value_name = "NAME")]
    agent: String,
    /// Whom the command runs as
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Print what the person has to do as JSON
    #[arg(long)]
    json: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Returns only when the command could not be started.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let user = User::from_name(&args.user)
        .context("looking up the user")?
        .with_context(|| format!("there is no user {}", args.user))?;
    let client = AdminClient::of(&output::load(&args.config.config)?);
    let who = if args.way.by_browser() {
        let owner = Some((user.uid, user.gid));
        let begin = |redirect_uri| {
            let agent = args.agent.clone();
            client.post(
                "/run/browser",
                &RunBrowserBody {
                    agent,
                    redirect_uri,
                },
            )
        };
        browser::sign_in(&client, (owner, args.json), begin, "/run/browser/answer")?
    } else {
        by_code(&client, args)?
    };
    output::note(&format!(
        "governed, as {} of tenant {}",
        who.oid, who.tenant
    ));
    // Governed from here on: the admin socket is closed to this process.
    let name = std::ffi::CString::new(user.name.as_str()).context("the user's name")?;
    initgroups(&name, user.gid).context("taking the user's groups")?;
    setgid(user.gid).context("becoming the user")?;
    setuid(user.uid).context("becoming the user")?;
    let Some((program, arguments)) = args.command.split_first() else {
        bail!("a command is needed");
    };
    let failed = Command::new(program)
        .args(arguments)
        .env("HOME", &user.dir)
        .env("USER", &user.name)
        .env("LOGNAME", &user.name)
        .exec();
    Err(failed).with_context(|| format!("starting {program}"))
}

fn by_code(client: &AdminClient, args: &RunArgs) -> Result<Who> {
    let body = RunBody {
        agent: args.agent.clone(),
    };
    let start: LoginStart = client.post("/run", &body)?;
    if args.json {
        output::data(&serde_json::to_string(&start)?);
    } else {
        output::note(&format!(
            "Open {} and enter the code {}",
            start.verification_uri, start.user_code
        ));
    }
    let interval = Duration::from_secs(start.interval_s.clamp(1, 60));
    let rounds = start.expires_s / interval.as_secs().max(1) + 1;
    for _round in 0..rounds {
        std::thread::sleep(interval);
        match client.post("/run/poll", &())? {
            LoginState::Pending => {}
            LoginState::SignedIn { who } => return Ok(who),
            LoginState::Refused { reason } => bail!("the sign-in was refused: {reason}"),
        }
    }
    bail!("nobody signed in in time")
}
