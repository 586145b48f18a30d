//! The lab's server as a superuser sees it: fresh databases, and what suites leave behind.

use std::process::Command;

use anyhow::{Context, Result};

use super::folder;
use crate::lab::database;
use crate::lab::model::Lab;
use crate::run;

/// Copied for every run.
const TEMPLATE: &str = "conformance_template";
/// Roles of statements that did not come to their end.
const ROLES: &str = "corpus_reader, corpus_r1, corpus_r2";

pub(super) struct Server<'a> {
    lab: &'a Lab,
}

impl<'a> Server<'a> {
    pub(super) fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self { lab })
    }

    /// `psql` as the server's owner, straight at it.
    pub(super) fn psql(&self, database: &str) -> Result<Command> {
        Ok(database::psql(self.lab, &database::binaries()?, database))
    }

    pub(super) fn sql(&self, statements: &[&str]) -> Result<()> {
        let mut psql = self.psql("postgres")?;
        for statement in statements {
            psql.args(["-c", statement]);
        }
        run::quiet(&mut psql)
    }

    /// Makes the user whom Weir logs in a superuser, as suites of the server's own expect, and the
    /// database that every run starts with.
    pub(super) fn prepare(&self) -> Result<()> {
        let user = &self.lab.database.user;
        self.sql(&[
            &format!("alter role {user} superuser"),
            &format!("drop database if exists {TEMPLATE}"),
            &format!("create database {TEMPLATE} owner {user}"),
        ])?;
        let setup = folder().join("setup.sql");
        let mut psql = self.psql(TEMPLATE)?;
        psql.args(["-c", &format!("set role {user}"), "--file"]);
        run::quiet(psql.arg(setup)).context("tables of the corpus")
    }

    /// A copy of the template under that name.
    pub(super) fn fresh(&self, database: &str) -> Result<()> {
        self.sql(&[
            &format!("drop database if exists {database} with (force)"),
            &format!("drop role if exists {ROLES}"),
            &format!("create database {database} template {TEMPLATE}"),
        ])
    }
}
