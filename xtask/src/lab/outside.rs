//! A namespace on the lab's bridge that nothing governs: what the agents' network would be without
//! Weir. It is an unprotected neighbour for agents, and the direct client of benchmarks.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::agents;
use super::daemon::{self, Plan, Process};
use super::model::Lab;
use crate::run;

/// The byte-copying proxy listens here, on the namespace's own address.
const PROXY_PORT: u16 = 6432;

/// One command over three paths: direct, through a copying proxy, through Weir.
pub(crate) struct Paths<'a> {
    lab: &'a Lab,
    password: String,
    proxy: Process,
}

impl<'a> Paths<'a> {
    /// Starts the copying proxy; it ends with the lab.
    pub(crate) fn start(lab: &'a Lab, proxy: &str) -> Result<Self> {
        let database = &lab.database;
        let log = lab.log("copyproxy");
        let process = daemon::start(&Plan {
            command: vec![
                "nsenter".to_owned(),
                format!("--net={}", lab.outside.netns.display()),
                proxy.to_owned(),
                format!("{}:{PROXY_PORT}", lab.outside.addresses.v4),
                format!("{}:{}", database.addresses.v4, database.port),
            ],
            envs: BTreeMap::new(),
            cgroup: lab.cgroup_path(agents::PARTS),
            log: &log,
            folder: PathBuf::from("/"),
        })?;
        process.wait_ready(0)?;
        let password = fs::read_to_string(&database.password_file).context("the password")?;
        Ok(Self {
            lab,
            password,
            proxy: process,
        })
    }

    /// Processor time of the copying proxy, of Weir (broker and node) and of ClickHouse so far,
    /// seconds.
    pub(crate) fn cpu_s(&self) -> Result<[f64; 3]> {
        let of = |name: &str| {
            let process = self.lab.processes.get(name).context("no such process")?;
            process.cpu_s()
        };
        Ok([
            self.proxy.cpu_s()?,
            of("broker")? + of("node")?,
            of("store")?,
        ])
    }

    /// Straight to the server.
    pub(crate) fn direct(&self, command: &[String]) -> Result<String> {
        let database = &self.lab.database;
        self.outside(command, &database.addresses.v4.to_string(), database.port)
    }

    /// Through the copying proxy, over an address of the client's own namespace.
    pub(crate) fn copied(&self, command: &[String]) -> Result<String> {
        self.outside(
            command,
            &self.lab.outside.addresses.v4.to_string(),
            PROXY_PORT,
        )
    }

    fn outside(&self, command: &[String], host: &str, port: u16) -> Result<String> {
        let database = &self.lab.database;
        run::output(
            Command::new("nsenter")
                .arg(format!("--net={}", self.lab.outside.netns.display()))
                .args(command)
                .env("PGHOST", host)
                .env("PGPORT", port.to_string())
                .env("PGUSER", &database.user)
                .env("PGDATABASE", &database.name)
                .env("PGPASSWORD", &self.password)
                .current_dir("/"),
        )
    }

    /// Through Weir, as the operator.
    pub(crate) fn governed(&self, command: &[String]) -> Result<String> {
        let program = std::env::current_exe().context("finding this program")?;
        run::output(
            Command::new(program)
                .args([
                    "lab",
                    "exec",
                    "--name",
                    &self.lab.name,
                    "--agent",
                    "operator",
                    "--",
                ])
                .args(command),
        )
    }
}

/// A script of bash where nothing is governed.
pub(crate) fn direct(lab: &Lab, script: &str) -> Result<String> {
    run::output(
        Command::new("nsenter")
            .arg(format!("--net={}", lab.outside.netns.display()))
            .args(["bash", "-c", script])
            .current_dir("/"),
    )
}

/// The same as the operator, whose connections Weir intercepts.
pub(crate) fn governed(lab: &Lab, script: &str) -> Result<String> {
    let program = std::env::current_exe().context("finding this program")?;
    run::output(
        Command::new(program)
            .args(["lab", "exec", "--name", &lab.name, "--agent", "operator"])
            .args(["--", "bash", "-c", script]),
    )
}
