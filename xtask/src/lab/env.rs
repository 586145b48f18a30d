//! `lab env`, `lab status`, `lab login`: what a lab has, and who reviews in it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::entra;
use super::model::Lab;
use super::names::names;
use crate::{http, say};

/// Prints the lab as names or as JSON.
pub(crate) fn env(name: &str, as_json: bool) -> Result<()> {
    let lab = Lab::load(name)?;
    if as_json {
        let mut value = serde_json::to_value(&lab).context("the lab as JSON")?;
        if let Value::Object(fields) = &mut value {
            let alive: BTreeMap<&String, bool> = lab
                .processes
                .iter()
                .map(|(name, process)| (name, process.alive()))
                .collect();
            fields.insert("alive".to_owned(), json!(alive));
            fields.insert("names".to_owned(), json!(names(&lab)));
        }
        say::result(serde_json::to_string_pretty(&value).context("the lab as JSON")?);
    } else {
        for (name, value) in names(&lab) {
            say::result(format!("{name}={value}"));
        }
    }
    Ok(())
}

/// One line per process; exit code 1 when one has ended.
pub(crate) fn status(name: &str) -> Result<ExitCode> {
    let lab = Lab::load(name)?;
    let mut all = true;
    for (name, process) in &lab.processes {
        let alive = process.alive();
        all &= alive;
        let state = if alive { "runs" } else { "ended" };
        say::result(format!(
            "{name:9} {state:6} pid {:7} {}",
            process.pid,
            process.log.display()
        ));
    }
    if let Some(weir) = lab
        .weir
        .as_ref()
        .filter(|_| lab.processes.contains_key("node"))
    {
        let (ready, answer) = match http::get(&format!("http://{}", weir.admin_http), "/ready") {
            Ok((status, body)) => (status == 200, format!("{status} {}", body.trim())),
            Err(error) => (false, format!("{error:#}")),
        };
        all &= ready;
        say::result(format!("{:9} {answer}", "/ready"));
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `weir login`, with the code that it prints approved as `user` at the test Entra.
pub(crate) fn sign_in(lab: &Lab, user: &str) -> Result<()> {
    let weir = lab
        .weir
        .as_ref()
        .context("this lab was brought up without Weir")?;
    let mut login = Command::new(&weir.binary)
        .args(["login", "--json", "--config"])
        .arg(&weir.config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting weir login")?;
    let mut lines = BufReader::new(login.stdout.take().context("weir login's output")?).lines();
    let mut next = || -> Option<Value> { serde_json::from_str(&lines.next()?.ok()?).ok() };
    let code = next()
        .as_ref()
        .and_then(|start| start.get("user_code"))
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(code) = &code {
        entra::approve_device(lab, code, user)?;
    }
    let who = next();
    let status = login.wait().context("waiting for weir login")?;
    if !status.success() || code.is_none() {
        bail!("weir login ended with {status}");
    }
    let oid = who
        .as_ref()
        .and_then(|who| who.get("oid"))
        .and_then(Value::as_str);
    say::note(format!("{user} signed in as {}", oid.unwrap_or("?")));
    Ok(())
}
