//! What came of each test, by both ways.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::super::report::Report;

/// One line of a list: a test, or with `*` behind it all that begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    driver: String,
    pub(super) test: String,
}

impl Named {
    /// Lines `PREFIXdriver::test: why`; others are of something else.
    pub(super) fn read(text: &str, prefix: &str) -> Vec<Self> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.strip_prefix(prefix)?.split_once(": "))
            .filter_map(|(name, _why)| name.split_once("::"))
            .map(|(driver, test)| Self {
                driver: driver.to_owned(),
                test: test.to_owned(),
            })
            .collect()
    }

    pub(super) fn of(list: &[Self], driver: &str) -> Vec<Self> {
        let of = |named: &&Self| named.driver == driver;
        list.iter().filter(of).cloned().collect()
    }

    fn covers(&self, test: &str) -> bool {
        match self.test.strip_suffix('*') {
            Some(beginning) => test.starts_with(beginning),
            None => self.test == test,
        }
    }
}

/// What a test came to: passed, failed, error or skipped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// By which its runner knows it.
    id: String,
    came_to: String,
}

/// By the tests' names.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<String, Outcome>);

/// A run that did not come to its end, as if it were a test.
const CUT_OFF: &str = "(the run itself)";

impl Outcomes {
    /// Lines of JSON, `[id, name, outcome, why]`; the last one may have been cut off.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut outcomes = BTreeMap::new();
        for line in text.lines() {
            let Ok([id, name, outcome, why]) = serde_json::from_str::<[String; 4]>(line) else {
                anyhow::ensure!(text.ends_with(line), "no outcome: {line}");
                continue;
            };
            let came_to = format!("{outcome} {why}").trim_end().to_owned();
            outcomes.insert(name, Outcome { id, came_to });
        }
        Ok(Self(outcomes))
    }

    pub(super) fn cut_off(&mut self, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        let outcome = Outcome {
            id: String::new(),
            came_to: format!("error {first}"),
        };
        self.0.insert(CUT_OFF.to_owned(), outcome);
    }

    /// Whether anything did more than to be skipped.
    pub(super) fn ran(&self) -> bool {
        self.0.values().any(|outcome| outcome.came_to != SKIPPED)
    }

    fn came_to(&self, test: &str) -> &str {
        self.0.get(test).map_or(NOTHING, |it| it.came_to.as_str())
    }
}

const SKIPPED: &str = "skipped";
const NOTHING: &str = "(was not run)";

/// Both ways.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) direct: Outcomes,
    pub(super) weir: Outcomes,
}

impl Seen {
    fn tests(&self) -> BTreeSet<&str> {
        let both = self.direct.0.keys().chain(self.weir.0.keys());
        both.map(String::as_str).collect()
    }

    fn differs(&self, test: &str) -> bool {
        self.direct.came_to(test) != self.weir.came_to(test)
    }

    /// Ids of the tests that differ and are not meant to.
    pub(super) fn differing_ids(&self, meant: &[Named]) -> Vec<String> {
        let meant = |test: &&str| meant.iter().any(|named| named.covers(test));
        let id = |test| self.direct.0.get(test).or_else(|| self.weir.0.get(test));
        let differing = self.tests().into_iter().filter(|test| self.differs(test));
        differing
            .filter(|test| !meant(test))
            .filter_map(|test| Some(id(test)?.id.clone()))
            .filter(|id| !id.is_empty())
            .collect()
    }

    /// Takes the word of a second run for what it ran both ways.
    pub(super) fn replace(&mut self, again: Self) {
        let Self { direct, mut weir } = again;
        for (test, outcome) in direct.0 {
            if let (Some(other), true) = (weir.0.remove(&test), test != CUT_OFF) {
                self.direct.0.insert(test.clone(), outcome);
                self.weir.0.insert(test, other);
            }
        }
    }

    /// Tests that both ways skip are not counted.
    pub(super) fn report(&self, suite: String, meant: &[Named]) -> Report {
        let mut report = Report {
            suite,
            run: 0,
            same: 0,
            meant: Vec::new(),
            different: Vec::new(),
        };
        let mut used = vec![false; meant.len()];
        for test in self.tests() {
            let (direct, weir) = (self.direct.came_to(test), self.weir.came_to(test));
            if (direct, weir) == (SKIPPED, SKIPPED) {
                continue;
            }
            report.run += 1;
            if direct == weir {
                report.same += 1;
            } else if let Some(at) = meant.iter().position(|named| named.covers(test)) {
                if let Some(used) = used.get_mut(at) {
                    *used = true;
                }
            } else {
                let words = format!("different: {test}\n   direct {direct}\n   weir   {weir}");
                report.different.push(words);
            }
        }
        for (named, used) in meant.iter().zip(used) {
            let name = format!("{}::{}", named.driver, named.test);
            if used {
                report.meant.push(name);
            } else {
                report.run += 1;
                let words = format!("different: differences.txt names '{name}', which is the same");
                report.different.push(words);
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(lines: &[[&str; 4]]) -> Outcomes {
        let text: Vec<String> = lines
            .iter()
            .map(|line| serde_json::to_string(line).unwrap())
            .collect();
        Outcomes::read(&text.join("\n")).unwrap()
    }

    fn seen(direct: &[[&str; 4]], weir: &[[&str; 4]]) -> Seen {
        Seen {
            direct: outcomes(direct),
            weir: outcomes(weir),
        }
    }

    const PASSED: [&str; 4] = ["1", "a", "passed", ""];
    const FAILED: [&str; 4] = ["1", "a", "failed", "x"];

    #[test]
    fn outcome_and_reason_are_compared() {
        let also_failed = ["1", "a", "failed", "y"];
        for (direct, weir, different) in [
            (PASSED, PASSED, 0),
            (FAILED, FAILED, 0),
            (PASSED, FAILED, 1),
            (FAILED, PASSED, 1),
            (FAILED, also_failed, 1),
        ] {
            let report = seen(&[direct], &[weir]).report("s".to_owned(), &[]);
            assert_eq!(report.different.len(), different, "{direct:?} {weir:?}");
            assert_eq!((report.run, report.same), (1, 1 - different));
        }
    }

    #[test]
    fn a_test_that_ran_one_way_only_differs_and_what_both_skip_is_no_run() {
        let skipped = ["2", "b", "skipped", ""];
        let report = seen(&[PASSED, skipped], &[skipped]).report("s".to_owned(), &[]);
        assert_eq!((report.run, report.same), (1, 0));
        assert_eq!(
            report.different,
            ["different: a\n   direct passed\n   weir   (was not run)"]
        );
        assert!(!outcomes(&[skipped]).ran());
    }

    #[test]
    fn a_run_that_was_cut_off_is_a_difference_and_not_asked_for_again() {
        let mut seen = seen(&[PASSED], &[PASSED]);
        seen.weir.cut_off("it ended with 124\nmore");
        assert!(seen.differing_ids(&[]).is_empty());
        let report = seen.report("s".to_owned(), &[]);
        assert!(report.different[0].contains("weir   error it ended with 124"));
        assert!(Outcomes::read("[\"1\", \"a\", \"pas").unwrap().0.is_empty());
        assert!(Outcomes::read("nonsense\n[\"1\", \"a\", \"passed\", \"\"]").is_err());
    }

    #[test]
    fn the_second_run_counts_where_it_ran_both_ways() {
        let other = ["2", "b", "failed", "x"];
        let mut seen = seen(&[PASSED, other], &[FAILED, ["2", "b", "passed", ""]]);
        assert_eq!(seen.differing_ids(&[]), ["1", "2"]);
        let meant = Named::read("d::b: why", "");
        assert_eq!(seen.differing_ids(&meant), ["1"]);
        seen.replace(self::seen(&[PASSED, other], &[PASSED]));
        let report = seen.report("s".to_owned(), &[]);
        assert_eq!((report.run, report.same), (2, 1));
        assert!(report.different[0].starts_with("different: b\n"));
    }

    #[test]
    fn named_differences_are_meant_and_must_be_there() {
        let text = "# own d::no: comment\nown d::a: why: more\nown d::b*: why\nown e::a: why\ncorpus d::a: x\n";
        let meant = Named::of(&Named::read(text, "own "), "d");
        assert_eq!(meant.len(), 2);
        let report = seen(&[PASSED], &[FAILED]).report("s".to_owned(), &meant);
        assert_eq!(report.meant, ["d::a"]);
        assert_eq!(
            report.different,
            ["different: differences.txt names 'd::b*', which is the same"]
        );
        assert!(meant[1].covers("bcd"));
        assert!(!meant[0].covers("ab"));
    }
}
