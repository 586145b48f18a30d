//! The drivers' own tests, of their source packages: each has to come to the same both ways.

mod crates;
mod list;
mod outcomes;
mod programs;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use self::list::{OWNERS, Reach, TESTS, Tests};
use self::outcomes::{Named, Outcomes, Seen};
use self::programs::Programs;
use super::report::Report;
use super::{Run, Way, corpus, folder, kept};
use crate::say;

/// A test that is different for want of time is not so each time.
const AGAIN: usize = 2;
/// Tests that never end are an error.
const LIMIT: [&str; 3] = ["timeout", "--kill-after=10", "600"];

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    let programs = Programs::prepare()?;
    let text =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let left_out = Named::read(&text(suites().join("left-out.txt"))?, "");
    let meant = Named::read(&text(folder().join("differences.txt"))?, "own ");
    let mut reports = Vec::new();
    let asked = |name: &str| run.drivers.is_empty() || run.drivers.iter().any(|it| it == name);
    anyhow::ensure!(
        TESTS.iter().any(|tests| asked(tests.name)),
        "no such driver; there are {}",
        TESTS.map(|tests| tests.name).join(" ")
    );
    for tests in TESTS.iter().filter(|tests| asked(tests.name)) {
        let step = say::step(format!("own tests of {}", tests.name));
        let one = One {
            run,
            programs: &programs,
            tests,
            left_out: Named::of(&left_out, tests.name),
        };
        let report = one.report(&Named::of(&meant, tests.name))?;
        step.done(format!("{} of {} the same", report.same, report.run));
        reports.push(report);
    }
    Ok(reports)
}

fn suites() -> PathBuf {
    folder().join("suites")
}

struct One<'a> {
    run: &'a Run<'a>,
    programs: &'a Programs,
    tests: &'static Tests,
    left_out: Vec<Named>,
}

impl One<'_> {
    /// What differs and is not meant to is run again, without the others, before it counts.
    fn report(&self, meant: &[Named]) -> Result<Report> {
        let name = self.tests.name;
        let mut seen = self.both("")?;
        for _ in 0..AGAIN {
            let differing = seen.differing_ids(meant);
            if differing.is_empty() {
                break;
            }
            let only = kept(&format!("own.{name}.again"));
            fs::write(&only, differing.join("\n")).context("keeping what differs")?;
            seen.replace(self.both(only.to_str().context("a path of text")?)?);
        }
        Ok(seen.report(format!("own, {name}"), meant))
    }

    fn both(&self, only: &str) -> Result<Seen> {
        let mut outcomes = Vec::new();
        for way in Way::BOTH {
            outcomes.push(self.once(way, only)?);
        }
        let weir = outcomes.pop().unwrap_or_default();
        let direct = outcomes.pop().unwrap_or_default();
        anyhow::ensure!(
            direct.ran(),
            "no test of {} ran straight at the server",
            self.tests.name
        );
        Ok(Seen { direct, weir })
    }

    fn once(&self, way: Way, only: &str) -> Result<Outcomes> {
        self.fresh()?;
        let mut command: Vec<String> = LIMIT.map(str::to_owned).to_vec();
        if self.tests.reach == Reach::Address {
            command.extend(self.programs.forwarded()?);
        }
        let left_out: Vec<&str> = self.left_out.iter().map(|it| it.test.as_str()).collect();
        command.extend(self.programs.command(self.tests, only, &left_out)?);
        let again = if only.is_empty() { "" } else { ".again" };
        let path = kept(&format!("own.{}.{}{again}", self.tests.name, way.name()));
        let ended = corpus::to_file(&mut self.client(way, &command)?, &path);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut outcomes = Outcomes::read(&text)?;
        if let Err(error) = ended {
            outcomes.cut_off(&format!("{error:#}"));
        }
        Ok(outcomes)
    }

    fn fresh(&self) -> Result<()> {
        let database = self.tests.database;
        let server = &self.run.server;
        if database != OWNERS {
            let user = &self.run.lab.database.user;
            server.sql(&[
                &format!("drop database if exists {database} with (force)"),
                &format!("create database {database} owner {user}"),
            ])?;
        }
        let script = self.programs.script_of(self.tests.package);
        let mut psql = server.psql(database)?;
        crate::run::quiet(psql.arg("--file").arg(script)).context("what the tests want")
    }

    /// Straight at the server over TLS as well, where the other way is; else the tests would see that.
    fn client(&self, way: Way, command: &[String]) -> Result<Command> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut client = self.run.client(way, self.tests.database, &words)?;
        if (self.tests.reach, way) == (Reach::Variables, Way::Direct) {
            let database = &self.run.lab.database;
            let password = fs::read_to_string(&database.password_file).context("the password")?;
            let (program, arguments) = words.split_first().context("a command")?;
            client = Command::new(program);
            client
                .args(arguments)
                .env("PGHOST", database.addresses.v4.to_string())
                .env("PGPORT", database.port.to_string())
                .env("PGUSER", &database.user)
                .env("PGDATABASE", self.tests.database)
                .env("PGPASSWORD", password.trim_end());
        }
        Ok(client)
    }
}
