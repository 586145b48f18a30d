//! The command line of `cargo xtask lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::container::InsideArgs;

#[derive(Args, Clone)]
pub(crate) struct Name {
    /// Which lab; several can run side by side
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
}

#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    cargo xtask lab up\n  \
    cargo xtask lab exec --agent analyst -- psql -c 'select * from customers limit 3'\n  \
    cargo xtask lab up --name mine --config my.yaml --policies my-policies\n  \
    cargo xtask lab env --json\n  \
    cargo xtask lab down")]
pub(crate) enum LabCommand {
    /// Start a lab: database, test Entra, store, two agents, broker and node
    Up(UpArgs),
    /// End a lab and remove everything it made
    Down {
        #[command(flatten)]
        name: Name,
        /// Every lab on this machine
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Print every address, path, credential and process
    Env {
        #[command(flatten)]
        name: Name,
        /// As JSON; else NAME=value lines, the names that `--config` files may use as ${NAME}
        #[arg(long)]
        json: bool,
    },
    /// Run a command inside an agent, unmodified, as a container would
    Exec(ExecArgs),
    /// Say which parts run; exit code 1 when one does not
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Start processes of a lab that have ended (after a test has killed them)
    Start {
        #[command(flatten)]
        name: Name,
        /// broker, node or store; all when absent
        process: Option<String>,
    },
    /// Start a node beside the one that runs, which then drains; its sessions move where they can
    Upgrade {
        #[command(flatten)]
        name: Name,
    },
    /// End the broker and start it again; the node goes on with its sessions
    RestartBroker {
        #[command(flatten)]
        name: Name,
        /// By SIGKILL instead of SIGTERM
        #[arg(long)]
        kill: bool,
    },
    /// Sign a reviewer in: `weir login`, with the code approved at the test Entra
    Login {
        #[command(flatten)]
        name: Name,
        /// A user of the test Entra
        #[arg(long, default_value = "alice")]
        user: String,
    },
    /// What `exec` runs as the first process inside the agent
    #[command(hide = true)]
    Inside(InsideArgs),
}

#[derive(Args, Clone)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) name: Name,
    /// Configuration instead of deploy/lab/weir.yaml; ${NAMES} as printed by `lab env`
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Policies instead of deploy/policies; ${NAMES} are replaced here, too
    #[arg(long, value_name = "DIR")]
    pub(crate) policies: Option<PathBuf>,
    /// Everything but the broker and the node
    #[arg(long)]
    pub(crate) no_weir: bool,
    /// Optimised binaries
    #[arg(long)]
    pub(crate) release: bool,
    /// Weir speaks to the demo database without TLS
    #[arg(long)]
    pub(crate) plain_database: bool,
    /// The console speaks TLS, on the address by which agents reach the host
    #[arg(long)]
    pub(crate) console_tls: bool,
    /// Folder with `weir` and `weir-store`: nothing is built
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    pub(crate) binaries: Option<PathBuf>,
}

#[derive(Args, Clone)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) name: Name,
    /// Which agent
    #[arg(long, default_value = "analyst")]
    pub(crate) agent: String,
    /// User inside the agent: a name or a number
    #[arg(long, default_value = "0")]
    pub(crate) user: String,
    /// Further variables
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) envs: Vec<String>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) command: Vec<String>,
}
