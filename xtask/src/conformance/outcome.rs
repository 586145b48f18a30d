//! Every group through Weir; what fails is asked straight at the server, so that only Weir is blamed
//! for what Weir does.

use std::process::ExitCode;

use anyhow::Result;

use super::groups::Group;
use super::suite::{Suite, Way};
use crate::say;

/// What came of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Fails as it is meant to.
    Differs,
    /// Fails without Weir, too.
    FailsDirectly,
    Failed,
    /// Is said to differ and does not.
    NoLongerDiffers,
}

impl Outcome {
    const fn said(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Differs => "differs as meant",
            Self::FailsDirectly => "fails without Weir, too",
            Self::Failed => "FAILED",
            Self::NoLongerDiffers => "PASSED, but differences.txt says that it differs",
        }
    }

    const fn good(self) -> bool {
        matches!(self, Self::Passed | Self::Differs | Self::FailsDirectly)
    }
}

/// Runs the conversation and all groups, and prints what came of them.
pub(super) fn run(suite: &Suite<'_>, groups: &[Group]) -> Result<ExitCode> {
    let step = say::step("conversation through Weir");
    let talked = suite.conversation(&step);
    match &talked {
        Ok(()) => step.done("exec, attach and port-forward need a kubelet and were skipped"),
        Err(error) => say::note(format!("FAILED conversation: {error:#}")),
    }
    let mut outcomes = Vec::new();
    for group in groups {
        let step = say::step(&group.name);
        let outcome = one(suite, &step, group);
        step.done(outcome.said());
        outcomes.push(outcome);
    }
    for (group, outcome) in groups.iter().zip(&outcomes) {
        let why = match (outcome, &group.differs) {
            (Outcome::Differs, Some(why)) => format!(": {why}"),
            (Outcome::Failed, _) => format!(": {}", Suite::log(&group.name, Way::Weir).display()),
            _ => String::new(),
        };
        say::result(format!("{:44} {}{why}", group.name, outcome.said()));
    }
    let count = |wanted: Outcome| outcomes.iter().filter(|found| **found == wanted).count();
    say::result(format!(
        "{} groups: {} passed, {} differ as meant, {} fail without Weir, too, {} failed",
        groups.len(),
        count(Outcome::Passed),
        count(Outcome::Differs),
        count(Outcome::FailsDirectly),
        count(Outcome::Failed) + count(Outcome::NoLongerDiffers),
    ));
    let good = talked.is_ok() && outcomes.iter().all(|outcome| outcome.good());
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(suite: &Suite<'_>, step: &say::Step, group: &Group) -> Outcome {
    let passed = suite.group(step, &group.name, Way::Weir).is_ok();
    match (passed, &group.differs) {
        (true, None) => Outcome::Passed,
        (true, Some(_)) => Outcome::NoLongerDiffers,
        (false, _) if suite.group(step, &group.name, Way::Direct).is_err() => {
            Outcome::FailsDirectly
        }
        (false, Some(_)) => Outcome::Differs,
        (false, None) => Outcome::Failed,
    }
}
