//! The ClickHouse engine of a lab.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::agents;
use super::daemon::{self, Plan};
use super::model::{Lab, Store};
use super::secret::{random_word, write_private};
use crate::binaries::Binaries;
use crate::setup;

/// Starts `weir-store` on a free port of loopback.
pub(crate) fn start(lab: &mut Lab, binaries: &Binaries) -> Result<()> {
    let data = lab.state_dir.join("store");
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let token = |role: &str| -> Result<std::path::PathBuf> {
        let file = lab.secrets().join(format!("store-{role}"));
        write_private(&file, random_word()?.as_bytes())?;
        Ok(file)
    };
    let (writer, reader, migrator) = (token("writer")?, token("reader")?, token("migrator")?);
    let log = lab.log("store");
    let command = [
        binaries.store.display().to_string(),
        "--library".to_owned(),
        setup::engine_library()?.display().to_string(),
        "--data".to_owned(),
        data.display().to_string(),
        "--listen".to_owned(),
        "127.0.0.1:0".to_owned(),
        "--writer-token".to_owned(),
        writer.display().to_string(),
        "--reader-token".to_owned(),
        reader.display().to_string(),
        "--migrator-token".to_owned(),
        migrator.display().to_string(),
    ];
    let process = daemon::start(&Plan {
        command: command.to_vec(),
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &log,
        folder: lab.state_dir.clone(),
    })?;
    lab.processes.insert("store".to_owned(), process.clone());
    lab.save()?;
    let ready = process.wait_ready(0)?;
    let url = ready.trim_start_matches("READY").trim().to_owned();
    lab.store = Some(Store {
        url,
        writer_token_file: writer,
        reader_token_file: reader,
        migrator_token_file: migrator,
    });
    lab.save()
}

/// Starts the engine again where it was, if it has ended.
pub(crate) fn start_again(name: &str) -> Result<()> {
    let mut lab = Lab::load(name)?;
    let before = lab.processes.get("store").context("the lab has no store")?;
    if before.alive() {
        return Ok(());
    }
    let url = lab
        .store
        .as_ref()
        .context("the store's address")?
        .url
        .clone();
    let mut command = before.command.clone();
    let listen = command.iter().position(|word| word == "--listen");
    let address = listen.and_then(|at| command.get_mut(at + 1));
    url.trim_start_matches("http://")
        .clone_into(address.context("the store's arguments")?);
    let log = lab.log("store");
    let written = fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let process = daemon::start(&Plan {
        command,
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &log,
        folder: lab.state_dir.clone(),
    })?;
    lab.processes.insert("store".to_owned(), process.clone());
    lab.save()?;
    process.wait_ready(written)?;
    Ok(())
}
