//! The lab that `WEIR_LAB` names.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Whether either stream contains the text.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        self.out.contains(text) || self.err.contains(text)
    }
}

/// A lab that is up.
pub struct Lab {
    name: String,
    xtask: String,
    /// `lab env --json` at the time of [`Lab::current`].
    pub env: Value,
}

impl Lab {
    /// The lab of this run.
    ///
    /// # Errors
    /// Says how to run these tests when there is no lab: they never pass without one.
    pub fn current() -> Result<Self> {
        let hint = "these tests need a lab: run cargo xtask test --tier e2e";
        let name = std::env::var("WEIR_LAB").context(hint)?;
        let xtask = std::env::var("WEIR_XTASK").context(hint)?;
        let mut lab = Self {
            name,
            xtask,
            env: Value::Null,
        };
        lab.refresh()?;
        Ok(lab)
    }

    /// Another lab beside the one of this run, of the same binaries; the caller takes it down.
    ///
    /// # Errors
    /// When it does not come up; what came up is taken down then.
    pub fn up_beside(&self, suffix: &str, config: &std::path::Path) -> Result<Self> {
        let mut other = Self {
            name: format!("{}-{suffix}", self.name),
            xtask: self.xtask.clone(),
            env: Value::Null,
        };
        let binary = self.name("LAB_WEIR_BINARY")?;
        let binaries = binary.rsplit_once('/').context("a folder of binaries")?.0;
        let config = config.to_str().context("a path of text")?;
        let mut command = other.xtask(&["lab", "up", "--name", &other.name]);
        command.args(["--binaries", binaries, "--config", config]);
        let said = run(command, "")?;
        if said.code != 0 {
            other.down()?;
            bail!("lab up: {said:?}");
        }
        other.refresh()?;
        Ok(other)
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn down(&self) -> Result<()> {
        let said = run(self.xtask(&["lab", "down", "--name", &self.name]), "")?;
        if said.code != 0 {
            bail!("lab down: {said:?}");
        }
        Ok(())
    }

    /// Reads `lab env --json` again.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn refresh(&mut self) -> Result<()> {
        let said = run(
            self.xtask(&["lab", "env", "--json", "--name", &self.name]),
            "",
        )?;
        self.env = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        Ok(())
    }

    /// One of the names that `lab env` prints.
    ///
    /// # Errors
    /// When the lab has no such name.
    pub fn name(&self, name: &str) -> Result<String> {
        let value = self
            .env
            .pointer(&format!("/names/{name}"))
            .and_then(Value::as_str);
        value
            .map(str::to_owned)
            .with_context(|| format!("the lab has no {name}"))
    }

    /// Pid of a process of the lab.
    ///
    /// # Errors
    /// When there is none.
    pub fn pid(&self, process: &str) -> Result<i64> {
        let value = self
            .env
            .pointer(&format!("/processes/{process}/pid"))
            .and_then(Value::as_i64);
        value.with_context(|| format!("the lab has no process {process}"))
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.xtask);
        command.args(arguments);
        command
    }

    /// Any command inside an agent.
    ///
    /// # Errors
    /// When it cannot be started; its exit code is no error.
    pub fn exec(&self, agent: &str, command: &[&str], input: &str) -> Result<Said> {
        run(self.exec_command(agent, command), input)
    }

    fn exec_command(&self, agent: &str, command: &[&str]) -> Command {
        let mut exec = self.xtask(&["lab", "exec", "--name", &self.name, "--agent", agent, "--"]);
        exec.args(command);
        exec
    }

    /// `psql` inside an agent, reading a script; SQLSTATEs are printed.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn psql(&self, agent: &str, script: &str) -> Result<Said> {
        self.exec(agent, &PSQL, script)
    }

    /// A command on the host, outside of every agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn on_host(command: &[String], input: &str) -> Result<Child> {
        let (program, arguments) = command.split_first().context("a command")?;
        let mut host = Command::new(program);
        host.args(arguments);
        start(host, input)
    }

    /// As [`Lab::exec`], not waiting for its end.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn started(&self, agent: &str, command: &[&str]) -> Result<Child> {
        start(self.exec_command(agent, command), "")
    }

    /// As [`Lab::psql`], not waiting for its end.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn psql_started(&self, agent: &str, script: &str) -> Result<Child> {
        start(self.exec_command(agent, &PSQL), script)
    }

    /// `psql` inside an agent, whose input stays open: one value a line comes out.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn psql_open(&self, agent: &str) -> Result<Child> {
        let mut command = self.exec_command(agent, &PSQL);
        command.args(["--no-align", "--tuples-only"]);
        spawn(command)
    }

    /// Tells the test Entra what happens in its directory.
    ///
    /// # Errors
    /// When it refuses.
    pub fn entra(&self, path: &str, body: &Value) -> Result<Value> {
        let python = Self::python_binary()?;
        let mut command = Command::new(python);
        let url = format!("{}{path}", self.name("LAB_AUTHORITY")?);
        command.args(["-B", "-c", crate::wire::POST, &url]);
        let said = run(command, &body.to_string())?;
        if said.code != 0 {
            bail!("{path}: {said:?}");
        }
        serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
    }

    /// What the test Entra says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn entra_get(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.name("LAB_AUTHORITY")?);
        let mut command = Command::new(Self::python_binary()?);
        command.args(["-B", "-c", crate::wire::GET, &url]);
        let said = run(command, "")?;
        serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
    }

    /// Where the test Entra sends a browser.
    ///
    /// # Errors
    /// When it shows a page instead.
    pub fn redirect(&self, url: &str) -> Result<String> {
        let mut command = Command::new(Self::python_binary()?);
        command.args(["-B", "-c", crate::wire::REDIRECT, url]);
        let said = run(command, "")?;
        if said.code != 0 {
            bail!("{url}: {said:?}");
        }
        Ok(said.out.trim().to_owned())
    }

    /// The interpreter with the packages that tests need.
    ///
    /// # Errors
    /// When it is not set up.
    pub fn python_binary() -> Result<String> {
        std::env::var("WEIR_PYTHON").context("WEIR_PYTHON is not set")
    }

    /// The test Python inside an agent.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn python(&self, agent: &str, script: &str) -> Result<Said> {
        let python = Self::python_binary()?;
        self.exec(agent, &[&python, "-B", "-c", script], "")
    }

    /// As [`Lab::python`], not waiting for its end.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn python_started(&self, agent: &str, script: &str) -> Result<Child> {
        let python = Self::python_binary()?;
        start(self.exec_command(agent, &[&python, "-B", "-c", script]), "")
    }

    /// A command on a terminal of 101 × 33 inside an agent: what is waited for, and typed then. Its
    /// output is all that was shown.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn on_terminal(
        &self,
        agent: &str,
        command: &[&str],
        steps: &[(&str, &str)],
    ) -> Result<Child> {
        let command = serde_json::to_string(command).context("a command")?;
        let steps = serde_json::to_string(steps).context("steps")?;
        let script = crate::wire::TERMINAL
            .replace("COMMAND[0], COMMAND", &format!("{command}[0], {command}"))
            .replace("STEPS:", &format!("{steps}:"));
        self.python_started(agent, &script)
    }

    /// As [`Lab::started`], with its input left open.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn interactive(&self, agent: &str, command: &[&str]) -> Result<Child> {
        spawn(self.exec_command(agent, command))
    }

    /// As [`Lab::upgrade`], not waiting for its end: [`Lab::refresh`] then.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn upgrade_started(&self) -> Result<Child> {
        start(self.xtask(&["lab", "upgrade", "--name", &self.name]), "")
    }

    /// Starts a node beside the one that runs, and waits until it serves.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn upgrade(&mut self) -> Result<()> {
        let said = run(self.xtask(&["lab", "upgrade", "--name", &self.name]), "")?;
        if said.code != 0 {
            bail!("lab upgrade: {said:?}");
        }
        self.refresh()
    }

    /// Ends the broker, by SIGKILL or as its supervisor would, and starts it again.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart_broker(&mut self, insist: bool) -> Result<()> {
        let mut arguments = vec!["lab", "restart-broker", "--name", &self.name];
        arguments.extend(insist.then_some("--kill"));
        let said = run(self.xtask(&arguments), "")?;
        if said.code != 0 {
            bail!("lab restart-broker: {said:?}");
        }
        self.refresh()
    }

    /// The `weir` command line on the host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn weir(&self, arguments: &[&str]) -> Result<Said> {
        run(self.weir_command(arguments)?, "")
    }

    fn weir_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.name("LAB_WEIR_BINARY")?);
        command
            .args(arguments)
            .args(["--config", &self.name("LAB_CONFIG")?]);
        Ok(command)
    }

    /// `weir … --json`.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn weir_json(&self, arguments: &[&str]) -> Result<Value> {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let said = self.weir(&all)?;
        if said.code != 0 {
            bail!("weir {all:?}: {said:?}");
        }
        serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
    }

    /// Id of the held request whose statement has this text, once there is one.
    ///
    /// # Errors
    /// When nothing is held in time.
    pub fn held(&self, statement: &str) -> Result<String> {
        crate::until("a held request", Duration::from_secs(60), || {
            let list = self.weir_json(&["approvals", "ls"])?;
            Ok(list.as_array().into_iter().flatten().find_map(|row| {
                let found = row["statement"].as_str()?.contains(statement);
                found.then(|| row["id"].as_str().map(str::to_owned))?
            }))
        })
    }

    /// Signs a reviewer in.
    ///
    /// # Errors
    /// When the sign-in fails.
    pub fn sign_in(&self, user: &str) -> Result<()> {
        let said = run(
            self.xtask(&["lab", "login", "--name", &self.name, "--user", user]),
            "",
        )?;
        if said.code != 0 {
            bail!("sign-in of {user}: {said:?}");
        }
        Ok(())
    }

    /// Starts processes of the lab that have ended.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        let said = run(self.xtask(&["lab", "start", "--name", &self.name]), "")?;
        if said.code != 0 {
            bail!("lab start: {said:?}");
        }
        self.refresh()
    }

    /// SIGKILL to a process of the lab, and its end: until then `lab start` would find it running.
    ///
    /// # Errors
    /// When it is not there, or does not end within 30 s.
    pub fn kill(&self, process: &str) -> Result<()> {
        let pid = self.pid(process)?;
        self.signal(process, "KILL")?;
        crate::until(
            "the end of what was killed",
            Duration::from_secs(30),
            || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                let state = stat.ok().and_then(|stat| {
                    let (_, behind) = stat.rsplit_once(") ")?;
                    behind.chars().next()
                });
                Ok(matches!(state, None | Some('Z' | 'X')).then_some(()))
            },
        )
    }

    /// A signal to a process of the lab, by its name without `SIG`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn signal(&self, process: &str, name: &str) -> Result<()> {
        let pid = self.pid(process)?.to_string();
        let mut command = Command::new("kill");
        command.args([&format!("-{name}"), &pid]);
        let said = run(command, "")?;
        if said.code != 0 {
            bail!("kill -{name} {process}: {said:?}");
        }
        Ok(())
    }

    /// As [`Lab::weir`], not waiting for its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn weir_started(&self, arguments: &[&str]) -> Result<Child> {
        start(self.weir_command(arguments)?, "")
    }

    /// One statement as the server's superuser, past Weir.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn server(&self, sql: &str) -> Result<String> {
        let mut command = Command::new("psql");
        command
            .args(["-XAtq", "-U", "postgres", "-v", "ON_ERROR_STOP=1"])
            .args([
                "-h",
                &self.name("LAB_DB_SOCKET_DIR")?,
                "-d",
                &self.name("LAB_DB_NAME")?,
            ])
            .args(["-c", sql])
            .current_dir("/");
        let said = run(command, "")?;
        if said.code != 0 {
            bail!("{sql}: {said:?}");
        }
        Ok(said.out.trim().to_owned())
    }

    /// One query to the store as its reader, as lines of tab-separated values.
    ///
    /// # Errors
    /// When the store refuses it.
    pub fn store(&self, sql: &str) -> Result<String> {
        self.store_as(sql, "TabSeparated")
    }

    /// The same as lines of JSON, with names of Weir's database as they are.
    ///
    /// # Errors
    /// When the store refuses it.
    pub fn store_json(&self, sql: &str) -> Result<String> {
        self.store_as(
            sql,
            "JSONEachRow&database=weir&output_format_json_quote_64bit_integers=0",
        )
    }

    fn store_as(&self, sql: &str, format: &str) -> Result<String> {
        let python = Self::python_binary()?;
        let mut command = Command::new(python);
        command.args(["-B", "-c", crate::wire::STORE_QUERY]).args([
            self.name("LAB_CLICKHOUSE_URL")?,
            self.name("LAB_READER_TOKEN_FILE")?,
            format.to_owned(),
        ]);
        let said = run(command, sql)?;
        if said.code != 0 {
            bail!("{sql}: {said:?}");
        }
        Ok(said.out)
    }

    /// The server's own log of statements.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn server_log(&self) -> Result<String> {
        let path = self
            .env
            .pointer("/database/log")
            .and_then(Value::as_str)
            .context("a log")?;
        let bytes = std::fs::read(path).with_context(|| path.to_owned())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

const PSQL: [&str; 5] = [
    "psql",
    "--no-psqlrc",
    "--no-password",
    "--set",
    "VERBOSITY=verbose",
];

fn spawn(mut command: Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))
}

fn start(command: Command, input: &str) -> Result<Child> {
    let mut child = spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input is no failure of ours.
        let _ended = stdin.write_all(input.as_bytes());
    }
    Ok(child)
}

fn run(command: Command, input: &str) -> Result<Said> {
    finish(start(command, input)?)
}

/// Waits for a started command.
///
/// # Errors
/// When it cannot be waited for.
pub fn finish(child: Child) -> Result<Said> {
    let output = child.wait_with_output().context("waiting for a command")?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
