//! A `psql` that stays open, and what becomes of its session.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::{Lab, finish};
use crate::until;

/// A live `psql`, whose answers are waited for.
pub struct Live {
    child: Child,
    input: ChildStdin,
}

impl Live {
    /// Returns once the first statement was answered.
    ///
    /// # Errors
    /// When psql ends before that.
    pub fn start(lab: &Lab, agent: &str) -> Result<Self> {
        Self::of(lab.psql_open(agent)?)
    }

    /// The same for a `psql` that was started with its input open, printing bare values.
    ///
    /// # Errors
    /// As [`Live::start`].
    pub fn of(mut child: Child) -> Result<Self> {
        let input = child.stdin.take().context("stdin")?;
        let mut live = Self { child, input };
        live.say("select 40 + 2;")?;
        let out = live.child.stdout.as_mut().context("stdout")?;
        let mut lines = BufReader::new(out);
        loop {
            let mut line = String::new();
            let count = lines.read_line(&mut line)?;
            anyhow::ensure!(count > 0, "psql ended before it was served");
            if line.trim() == "42" {
                return Ok(live);
            }
        }
    }

    fn say(&mut self, sql: &str) -> Result<()> {
        writeln!(self.input, "{sql}").context("writing to psql")
    }

    /// What psql says once its session was ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(mut self) -> Result<String> {
        // psql notices at its next statement.
        let _closed = self.say("select 1;");
        drop(self.input);
        let said = finish(self.child)?;
        Ok(said.err)
    }
}

/// Live sessions of a workload.
///
/// # Errors
/// When the node does not answer.
pub fn sessions(lab: &Lab, workload: &str) -> Result<usize> {
    let flows = lab.weir_json(&["flows"])?;
    let flows = flows.as_array().context("a list")?;
    Ok(flows
        .iter()
        .filter(|flow| flow["workload"] == workload)
        .count())
}

/// Waits until a workload has no session.
///
/// # Errors
/// When it still has one after that time.
pub fn session_ends(lab: &Lab, workload: &str, within: Duration) -> Result<()> {
    until("the session's end", within, || {
        Ok((sessions(lab, workload)? == 0).then_some(()))
    })
}

/// Session of a workload's only flow.
///
/// # Errors
/// When it has none.
pub fn session(lab: &Lab, workload: &str) -> Result<String> {
    let flows = lab.weir_json(&["flows"])?;
    let flows = flows.as_array().context("a list")?;
    let flow = flows.iter().find(|flow| flow["workload"] == workload);
    let session = flow.and_then(|flow| flow["session"].as_str());
    Ok(session.context("a session")?.to_owned())
}

/// Milliseconds from a revocation, which `weir revoke ls` listed, to the recorded end of a session:
/// by the node's own clock, so that runs of the command line are not in it.
///
/// # Errors
/// When the revocation is not in the list, or the end is not recorded in time.
pub fn ended_after_ms(lab: &Lab, session: &str, listed: &Value, value: &str) -> Result<i64> {
    let mut rows = listed.as_array().context("a list")?.iter();
    let row = rows.find(|row| row["value"] == value);
    let at_ms = row.and_then(|row| row["at_ms"].as_i64()).context("when")?;
    let number = u128::from_str_radix(&session.replace('-', ""), 16)?;
    let sql = format!(
        "select toUnixTimestamp64Milli(event_time) from weir.fact where \
         session_id = toUInt128('{number}') and kind = 'flow' and status = 'closed'"
    );
    let closed_ms = until("the end in the record", Duration::from_secs(20), || {
        Ok(lab.store(&sql)?.trim().parse::<i64>().ok())
    })?;
    Ok(closed_ms - at_ms)
}
