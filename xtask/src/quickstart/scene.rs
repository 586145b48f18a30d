//! Commands inside agents, and a list of what was expected and what came.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::said::{Said, finish, show};
use crate::lab::Lab;
use crate::say;

/// The demonstration in one lab.
pub(super) struct Scene<'a> {
    pub(super) lab: &'a Lab,
    checks: Vec<(String, bool)>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        Self {
            lab,
            checks: Vec::new(),
        }
    }

    /// Notes one expectation and says whether it held.
    pub(super) fn expect(&mut self, what: &str, held: bool) {
        say::note(format!("{} {what}", if held { "[ok]" } else { "[WRONG]" }));
        self.checks.push((what.to_owned(), held));
    }

    pub(super) fn shown(&self) -> usize {
        self.checks.len()
    }

    pub(super) fn failures(&self) -> usize {
        self.checks.iter().filter(|(_, held)| !held).count()
    }

    pub(super) fn summary(&self) -> Vec<String> {
        let line = |(what, held): &(String, bool)| {
            format!("{:7} {what}", if *held { "ok" } else { "WRONG" })
        };
        self.checks.iter().map(line).collect()
    }

    fn exec(&self, agent: &str, command: &[&str]) -> Result<Command> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut exec = Command::new(program);
        exec.args([
            "lab",
            "exec",
            "--name",
            &self.lab.name,
            "--agent",
            agent,
            "--",
        ])
        .args(command);
        Ok(exec)
    }

    /// `psql` as anybody would start it, reading a script; shows what was typed and what came.
    pub(super) fn psql(&self, agent: &str, script: &str) -> Result<Said> {
        for line in script.lines() {
            say::note(format!("{agent}> {line}"));
        }
        let said = finish(self.start_psql(agent, script)?)?;
        show(&said);
        Ok(said)
    }

    /// As [`Scene::psql`], without waiting for its end.
    pub(super) fn start_psql(&self, agent: &str, script: &str) -> Result<Child> {
        let psql = [
            "psql",
            "--no-psqlrc",
            "--no-password",
            "--set",
            "VERBOSITY=verbose",
        ];
        let mut child = self
            .exec(agent, &psql)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting psql")?;
        let mut stdin = child.stdin.take().context("psql's input")?;
        stdin
            .write_all(script.as_bytes())
            .context("writing to psql")?;
        Ok(child)
    }

    /// Any command inside an agent.
    pub(super) fn run(&self, agent: &str, command: &[&str]) -> Result<Said> {
        say::note(format!("{agent}$ {}", command.join(" ")));
        let said = finish(self.start(agent, command)?)?;
        show(&said);
        Ok(said)
    }

    /// As [`Scene::run`], without waiting for its end.
    pub(super) fn start(&self, agent: &str, command: &[&str]) -> Result<Child> {
        self.exec(agent, command)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting a command")
    }

    /// The `weir` command line on the host.
    pub(super) fn weir(&self, arguments: &[&str]) -> Result<Said> {
        let weir = self
            .lab
            .weir
            .as_ref()
            .context("this lab was brought up without Weir")?;
        let child = Command::new(&weir.binary)
            .args(arguments)
            .arg("--config")
            .arg(&weir.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting weir")?;
        finish(child)
    }

    /// `weir … --json`, parsed; a failure of the command is an error.
    pub(super) fn weir_json(&self, arguments: &[&str]) -> Result<Value> {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let said = self.weir(&all)?;
        if said.code != 0 {
            bail!(
                "weir {} ended with {}: {}",
                all.join(" "),
                said.code,
                said.err.trim()
            );
        }
        serde_json::from_str(&said.out)
            .with_context(|| format!("weir {} printed no JSON: {}", all.join(" "), said.out))
    }

    /// One value straight from the server, as its superuser over its unix socket.
    pub(super) fn server(&self, sql: &str) -> Result<String> {
        let database = &self.lab.database;
        let output = Command::new("psql")
            .args(["-XAtq", "-U", "postgres", "-d", &database.name, "-c", sql])
            .args(["-h".as_ref(), database.socket_dir.as_os_str()])
            .current_dir("/")
            .output()
            .context("starting psql")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
