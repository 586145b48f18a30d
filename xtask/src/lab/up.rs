//! `lab up`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use super::command::{Name, UpArgs};
use super::down::{down, keep_logs};
use super::model::{LABS, Lab, RUNS};
use super::{agents, cluster, console, database, entra, host, network, plan, store, weir};
use crate::binaries::{self, Binaries, Profile};
use crate::{place, say, setup};

/// A lab with every default.
pub(crate) fn default_args(name: &str) -> UpArgs {
    UpArgs {
        name: Name {
            name: name.to_owned(),
        },
        config: None,
        policies: None,
        no_weir: false,
        release: false,
        plain_database: false,
        console_tls: false,
        binaries: None,
    }
}

/// Brings a lab up; when that fails, what was made is removed, except its logs.
pub(crate) fn up(args: &UpArgs) -> Result<Lab> {
    place::need_root("a lab")?;
    Lab::check_name(&args.name.name)?;
    setup::run(setup::Need::lab())?;
    let binaries = match &args.binaries {
        Some(folder) => {
            // Parts of the lab have folders of their own.
            let folder = std::path::absolute(folder).context("the folder of binaries")?;
            Binaries {
                weir: folder.join("weir"),
                store: folder.join("weir-store"),
                apiserver: folder.join("weir-test-apiserver"),
            }
        }
        None => binaries::product(if args.release {
            Profile::Release
        } else {
            Profile::Dev
        })?,
    };
    let mut lab = claim(&args.name.name)?;
    match fill(&mut lab, args, &binaries) {
        Ok(()) => Ok(lab),
        Err(error) => {
            let logs = keep_logs(&lab);
            if let Err(second) = down(&lab) {
                say::note(format!("removing what was made: {second:#}"));
            }
            Err(error.context(format!(
                "lab '{}' did not come up; logs in {logs}",
                lab.name
            )))
        }
    }
}

fn fill(lab: &mut Lab, args: &UpArgs, binaries: &Binaries) -> Result<()> {
    lab.database.tls = !args.plain_database;
    let step = say::step("network and cgroups");
    agents::make(lab)?;
    network::make(lab)?;
    step.done(format!("10.77.{0}.0/24, fd77:{0:x}::/64", lab.number));
    let step = say::step("PostgreSQL");
    database::start(lab)?;
    step.done(format!(
        "{}:{}",
        lab.database.addresses.v4, lab.database.port
    ));
    let step = say::step("Kubernetes API");
    cluster::start(lab, binaries)?;
    step.done(&lab.cluster.server);
    let step = say::step("SSH host");
    host::start(lab)?;
    step.done(&lab.ssh_host.name);
    let step = say::step("test Entra");
    entra::start(lab)?;
    step.done(lab.entra.as_ref().map_or("", |entra| &entra.origin));
    let step = say::step("ClickHouse engine");
    store::start(lab, binaries)?;
    step.done(lab.store.as_ref().map_or("", |store| &store.url));
    let sources = weir::Sources {
        config: args.config.clone(),
        policies: args.policies.clone(),
    };
    console::prepare(lab, args.console_tls)?;
    weir::configure(lab, &sources, binaries)?;
    if args.no_weir {
        return Ok(());
    }
    let step = say::step("schema of the record");
    weir::migrate(lab)?;
    step.done("");
    let step = say::step("broker and node");
    weir::start(lab)?;
    step.done("");
    if let (Some(console), None) = (&lab.console, &args.config) {
        say::note(format!("the console: {}", console.url));
    }
    Ok(())
}

/// Takes a name and a number that nobody has.
fn claim(name: &str) -> Result<Lab> {
    for folder in [LABS, RUNS] {
        fs::create_dir_all(folder).with_context(|| format!("making {folder}"))?;
        // Passable for the database's and the node's users; each lab's folders are their own.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
            .with_context(|| format!("protecting {folder}"))?;
    }
    let lock = fs::File::create(Path::new(RUNS).join("lock")).context("making the lock")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("taking the lock")?;
    if Lab::names().iter().any(|known| known == name) {
        bail!("lab '{name}' is up already (cargo xtask lab down --name {name})");
    }
    let taken: Vec<u8> = Lab::names()
        .iter()
        .filter_map(|known| Lab::load(known).ok())
        .map(|lab| lab.number)
        .collect();
    let number = (0..=254)
        .find(|number| !taken.contains(number) && network::number_is_free(*number))
        .context("all 255 lab numbers are taken")?;
    let lab = plan::plan(name, number)?;
    for folder in [lab.state_dir.clone(), lab.run_dir.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))
            .context("a lab's folder")?;
    }
    for folder in [lab.secrets(), lab.state_dir.join("log")] {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .context("a lab's folder")?;
    }
    lab.save()?;
    Ok(lab)
}
