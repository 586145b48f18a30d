//! The command line.

mod approvals;
mod audit;
mod browser;
mod ca;
mod check;
mod db;
mod doctor;
mod flows;
mod grants;
mod login;
mod policy;
mod ready;
mod revoke;
mod run;
mod sessions;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::{daemon, output};

#[derive(Parser)]
#[command(
    name = "weir",
    version,
    about = "Governs what AI coding agents do to production",
    long_about = "Weir redirects an agent's connections to protected destinations on the node, \
                  binds each to an Entra identity, decides on every statement, holds risky ones \
                  for a human, masks what comes back and records everything.",
    after_help = "Examples:\n  \
        weir check --config /etc/weir/weir.yaml\n  \
        weir doctor\n  \
        weir login && weir approvals ls\n  \
        weir approvals approve 0190f0c2-… --justification 'ticket 4711'\n  \
        weir sessions replay 0190f0c2-…"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command finds its node through the same file.
#[derive(Args, Clone)]
pub(crate) struct ConfigArg {
    /// Configuration file
    #[arg(
        long,
        env = "WEIR_CONFIG",
        default_value = "/etc/weir/weir.yaml",
        value_name = "FILE"
    )]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// This node's name in the cluster, instead of kubernetes.node
    #[arg(long, env = "WEIR_KUBERNETES_NODE", value_name = "NAME")]
    kubernetes_node: Option<String>,
    /// Holds a line for as long as new flows are this process's (see weir ready)
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Once another node has succeeded this one and its sessions have ended, wait for SIGTERM
    /// instead of leaving: for supervisors that start again whatever leaves, such as a DaemonSet
    #[arg(long)]
    stay: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  weir ready --file /run/weir-pod/ready   # exit 0 or 1")]
pub(crate) struct ReadyArgs {
    /// What weir node was given as --ready-file
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Run the privileged side: eBPF, namespaces, listeners, heartbeat (root)
    Broker(ConfigArg),
    /// Run the enforcer: identity, policy, masking, recording (drops to node.user)
    Node(NodeArgs),
    /// Say whether one node process serves, by its own file; another may answer on admin.http
    Ready(ReadyArgs),
    /// Check configuration and policies; reports every problem
    Check(check::CheckArgs),
    /// Look at what this host offers and whether the parts answer
    Doctor(doctor::DoctorArgs),
    /// Sign in as a reviewer, by browser or device code
    Login(login::LoginArgs),
    /// Forget the sign-in
    Logout(ConfigArg),
    /// Show who is signed in
    Whoami(login::WhoamiArgs),
    /// List, approve and deny held requests
    Approvals(approvals::ApprovalsArgs),
    /// List and revoke what reviewers allowed for a while
    Grants(grants::GrantsArgs),
    /// Check, test and explain policies
    Policy(policy::PolicyArgs),
    /// List, show and replay recorded sessions
    Sessions(sessions::SessionsArgs),
    /// Show live flows, or end one
    Flows(flows::FlowsArgs),
    /// Sign in and run a command under governance, on a laptop or VM
    Run(run::RunArgs),
    /// End live sessions of a principal, workload or session, and keep it out
    Revoke(revoke::RevokeArgs),
    /// Check tokens
    Token(token::TokenArgs),
    /// Verify the record
    Audit(audit::AuditArgs),
    /// Manage the ClickHouse schema
    Db(db::DbArgs),
    /// Give clients what they need to trust this cluster's Weir
    Ca(ca::CaArgs),
    /// Remove every pinned program, map and link
    Uninstall(ConfigArg),
    /// Print shell completions
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// Parses the arguments and runs the command.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Broker(arg) => daemon::broker::run(&arg.config),
        Command::Node(arg) => {
            let options = daemon::node::NodeOptions {
                kubernetes_node: arg.kubernetes_node,
                ready_file: arg.ready_file,
                stay: arg.stay,
            };
            daemon::node::run(&arg.config.config, &options)
        }
        Command::Ready(args) => ready::run(&args.file),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Login(args) => login::login(&args),
        Command::Logout(arg) => login::logout(&arg),
        Command::Whoami(args) => login::whoami(&args),
        Command::Approvals(args) => approvals::run(&args),
        Command::Grants(args) => grants::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Sessions(args) => sessions::run(&args),
        Command::Flows(args) => flows::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Revoke(args) => revoke::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Db(args) => db::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Uninstall(arg) => daemon::broker::uninstall(&arg.config),
        Command::Completions { shell } => {
            let mut command = Cli::command();
            clap_complete::generate(shell, &mut command, "weir", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// A time on the command line: `90s`, `30m`, `8h`; a bare number is seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let (number, factor) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.ends_with('h') => (number, 3600),
        Some(number) if text.ends_with('m') => (number, 60),
        Some(number) => (number, 1),
        None => (text, 1),
    };
    number
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "a time is such as 90s, 30m or 8h".to_owned())
}
