//! `weir login`, `logout`, `whoami`: a reviewer's sign-in, held by the node.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::ConfigArg;
use super::browser::{self, WayArgs};
use crate::admin::api::{BrowserBody, LoginStart, LoginState, Who};
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "By the browser where this machine has one, else by a code to enter elsewhere.\n\n\
                  Examples:\n  weir login\n  weir login --device\n  weir login --browser --json   \
                  # prints what to do as JSON first, then the outcome"
)]
pub(crate) struct LoginArgs {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    way: WayArgs,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct WhoamiArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Starts a sign-in and waits for it.
pub(crate) fn login(args: &LoginArgs) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&args.config.config)?);
    if !args.way.by_browser() {
        return by_code(&client, args.json);
    }
    let begin = |redirect_uri| client.post("/login/browser", &BrowserBody { redirect_uri });
    let how = (browser::sudoer(), args.json);
    let who = browser::sign_in(&client, how, begin, "/login/browser/answer")?;
    said(&who, args.json)
}

fn said(who: &Who, json: bool) -> Result<ExitCode> {
    if json {
        output::data(&serde_json::to_string(who)?);
    } else {
        describe(who);
    }
    Ok(ExitCode::SUCCESS)
}

fn by_code(client: &AdminClient, json: bool) -> Result<ExitCode> {
    let start: LoginStart = client.post("/login", &())?;
    if json {
        output::data(&serde_json::to_string(&start)?);
    } else {
        output::line(&format!(
            "Open {} and enter the code {}",
            start.verification_uri, start.user_code
        ));
        output::note(&format!(
            "waiting for the sign-in ({} s at most)…",
            start.expires_s
        ));
    }
    let interval = Duration::from_secs(start.interval_s.clamp(1, 60));
    let rounds = start.expires_s / interval.as_secs().max(1) + 1;
    for _round in 0..rounds {
        std::thread::sleep(interval);
        match client.post("/login/poll", &())? {
            LoginState::Pending => {}
            LoginState::SignedIn { who } => return said(&who, json),
            LoginState::Refused { reason } => bail!("the sign-in was refused: {reason}"),
        }
    }
    bail!("nobody signed in in time; run weir login again")
}

/// Forgets the sign-in.
pub(crate) fn logout(arg: &ConfigArg) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&arg.config)?);
    client.post::<_, Option<()>>("/logout", &())?;
    output::line("signed out");
    Ok(ExitCode::SUCCESS)
}

/// Shows who is signed in; exit 1 when nobody is.
pub(crate) fn whoami(args: &WhoamiArgs) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&args.config.config)?);
    let who: Who = client.get("/whoami")?;
    if args.json {
        output::json(&who)?;
    } else {
        describe(&who);
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(who: &Who) {
    output::line(&format!(
        "signed in as {} of tenant {}; decisions are taken for {} min",
        who.oid,
        who.tenant,
        who.fresh_for_s / 60
    ));
}
