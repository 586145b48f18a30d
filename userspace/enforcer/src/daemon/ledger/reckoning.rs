//! The comparison itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weir_broker::{LedgerClass, LedgerReport};

use super::Counts;
use super::taken::left_of;

const FILE: &str = "ledger.mark";

/// Which row this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Minute,
    /// The first of a process: what ended with an earlier one is abandoned.
    Restart,
}

/// Totals up to a row, since the kernel's counters began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) birth: u64,
    to_s: i64,
    classes: BTreeMap<String, Totals>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    redirected: u64,
    seen: u64,
    missed: u64,
    served: u64,
    abandoned: u64,
    in_flight: u64,
    events_lost: u64,
    refused: BTreeMap<String, u64>,
    /// What restarts cut off; signed, since a count may be ahead of the kernel's for a moment.
    explained: i64,
    difference: i64,
}

/// One row, by what happened since the row before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) workload: String,
    status: Status,
    from_s: i64,
    to_s: i64,
    numbers: Vec<(String, u64)>,
    pub(super) difference: i64,
    /// Since the kernel's counters began.
    pub(super) total_difference: i64,
}

impl Line {
    pub(super) const fn status(&self) -> &'static str {
        match (self.difference, self.status) {
            (0, Status::Minute) => "ok",
            (0, Status::Restart) => "restart",
            _ => "difference",
        }
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        let mut numbers = self.numbers.iter();
        numbers
            .find(|(known, _)| known == name)
            .map_or(0, |(_, number)| *number)
    }

    /// Labels of the fact: numbers as decimal text.
    pub(super) fn labels(&self) -> Vec<(String, String)> {
        let mut labels = vec![
            ("from".to_owned(), self.from_s.to_string()),
            ("to".to_owned(), self.to_s.to_string()),
            ("difference".to_owned(), self.difference.to_string()),
        ];
        let numbers = self.numbers.iter();
        labels.extend(numbers.map(|(name, number)| (name.clone(), number.to_string())));
        labels
    }
}

impl Mark {
    /// `None` when there is none, or none that can be read.
    pub(super) fn read(directory: &Path) -> Option<Self> {
        let text = fs::read(directory.join(FILE)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(format!("{FILE}.new"));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(new, directory.join(FILE))
    }
}

/// The number nearest to nothing between two bounds.
fn nearest(low: i64, high: i64) -> i64 {
    let (low, high) = (low.min(high), low.max(high));
    0_i64.clamp(low, high)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What the kernel saw and did not let end or wait, and what it accepted and we did not take.
fn unaccounted(class: &LedgerClass, taken: [u64; 2]) -> i64 {
    let ended = |at: usize| {
        let [accepted, abandoned, pending] = [&class.accepted, &class.abandoned, &class.pending]
            .map(|pair| pair.get(at).copied().unwrap_or(0));
        signed(accepted + abandoned + pending)
    };
    let kernel = nearest(signed(class.seen) - ended(1), signed(class.seen) - ended(0));
    let [early, late] = taken.map(|taken| signed(taken + class.queued));
    let [first, last] = class.accepted.map(signed);
    kernel + nearest(first - late, last - early)
}

/// Compares; the mark is for the next call. `taken` is by workload, read before and after.
pub(super) fn reckon(
    report: &LedgerReport,
    taken: &[Counts; 2],
    mark: Option<&Mark>,
    status: Status,
    now_s: i64,
) -> (Mark, Vec<Line>) {
    let known = mark.filter(|mark| mark.birth == report.birth);
    let from_s = known.map_or(now_s, |mark| mark.to_s);
    let mut next = Mark {
        birth: report.birth,
        to_s: now_s,
        classes: BTreeMap::new(),
    };
    let mut lines = Vec::new();
    for class in &report.classes {
        let number = |counts: &Counts, name: &str| counts.get(name).copied().unwrap_or(0);
        let left = left_of(&class.workload);
        let of = |counts: &Counts| number(counts, &class.workload) + number(counts, &left);
        let before = known.and_then(|mark| mark.classes.get(&class.workload));
        let before = before.cloned().unwrap_or_default();
        let [early, late] = taken.each_ref().map(of);
        let gone = number(&taken[1], &left);
        let total = unaccounted(class, [early, late]);
        let mut now = Totals {
            redirected: class.redirected,
            seen: class.seen,
            missed: class.missed,
            served: late - gone,
            abandoned: class.abandoned[1] + gone,
            in_flight: class.pending[1] + class.queued,
            events_lost: class.events_lost,
            refused: class.refused.iter().cloned().collect(),
            explained: before.explained,
            difference: 0,
        };
        // What an earlier process took with it, but never what was not redirected.
        if status == Status::Restart {
            now.explained = (total - signed(class.missed)).max(0);
        }
        now.difference = total - now.explained;
        let line = line(&class.workload, status, (from_s, now_s), (&before, &now));
        // Governed processes that nobody claims: only if there is something to say.
        if !class.workload.is_empty() || line.numbers.iter().any(|(_, number)| *number > 0) {
            lines.push(line);
        }
        next.classes.insert(class.workload.clone(), now);
    }
    (next, lines)
}

fn line(
    workload: &str,
    status: Status,
    (from_s, to_s): (i64, i64),
    (before, now): (&Totals, &Totals),
) -> Line {
    let since = |now: u64, before: u64| now.saturating_sub(before);
    let explained = u64::try_from(now.explained - before.explained).unwrap_or(0);
    let mut numbers = vec![
        ("redirected", since(now.redirected, before.redirected)),
        ("seen", since(now.seen, before.seen)),
        ("missed", since(now.missed, before.missed)),
        ("served", since(now.served, before.served)),
        (
            "abandoned",
            since(now.abandoned, before.abandoned) + explained,
        ),
        ("in_flight", now.in_flight),
        ("in_flight_before", before.in_flight),
        ("events_lost", since(now.events_lost, before.events_lost)),
    ]
    .into_iter()
    .map(|(name, number)| (name.to_owned(), number))
    .collect::<Vec<_>>();
    let mut refused = 0;
    for (reason, total) in &now.refused {
        let more = since(*total, before.refused.get(reason).copied().unwrap_or(0));
        refused += more;
        if more > 0 {
            numbers.push((format!("refused_{reason}"), more));
        }
    }
    numbers.push(("refused".to_owned(), refused));
    Line {
        workload: workload.to_owned(),
        status,
        from_s,
        to_s,
        numbers,
        difference: now.difference - before.difference,
        total_difference: now.difference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(seen: u64, accepted: u64, abandoned: u64, pending: u64) -> LedgerClass {
        LedgerClass {
            workload: "a".to_owned(),
            redirected: seen,
            seen,
            accepted: [accepted; 2],
            abandoned: [abandoned; 2],
            pending: [pending; 2],
            ..LedgerClass::default()
        }
    }

    fn report(class: LedgerClass) -> LedgerReport {
        LedgerReport {
            birth: 1,
            classes: vec![LedgerClass::default(), class],
        }
    }

    fn taken(number: u64) -> [Counts; 2] {
        let counts: Counts = [("a".to_owned(), number)].into_iter().collect();
        [counts.clone(), counts]
    }

    fn of(line: &Line, name: &str) -> u64 {
        line.number(name)
    }

    #[test]
    fn what_was_seen_is_served_abandoned_or_in_flight() {
        let mut first = class(10, 6, 1, 2);
        first.queued = 1;
        first.refused = vec![("no_heartbeat".to_owned(), 3)];
        // 10 = 6 accepted (5 taken, 1 queued) + 1 + 2, and one that nobody knows of.
        let (mark, lines) = reckon(&report(first), &taken(5), None, Status::Minute, 60);
        assert_eq!(lines.len(), 1, "nothing to say of the unclaimed");
        assert_eq!((lines[0].difference, lines[0].status()), (1, "difference"));
        assert_eq!(of(&lines[0], "refused_no_heartbeat"), 3);
        // The next minute adds up by itself; the total stays.
        let later = class(20, 19, 0, 0);
        let (_, lines) = reckon(&report(later), &taken(19), Some(&mark), Status::Minute, 120);
        assert_eq!((lines[0].difference, lines[0].total_difference), (0, 1));
        assert_eq!((of(&lines[0], "seen"), of(&lines[0], "served")), (10, 14));
        assert_eq!(lines[0].labels()[0], ("from".to_owned(), "60".to_owned()));
    }

    #[test]
    fn what_moves_while_it_is_read_is_no_difference() {
        let mut moving = class(10, 0, 0, 0);
        moving.accepted = [7, 12];
        moving.pending = [1, 1];
        let counts = |number| taken(number)[0].clone();
        let both = [counts(6), counts(12)];
        let (_, lines) = reckon(&report(moving), &both, None, Status::Minute, 60);
        assert_eq!(lines[0].difference, 0);
    }

    #[test]
    fn a_restart_explains_what_it_cut_off_and_not_what_passed_by() {
        let (mark, _) = reckon(
            &report(class(4, 4, 0, 0)),
            &taken(4),
            None,
            Status::Restart,
            60,
        );
        let mut cut = class(11, 9, 0, 0);
        cut.missed = 1;
        let again = report(cut);
        // 9 were accepted and 7 taken; of the other 2 of 11 one was not redirected.
        let (mark, lines) = reckon(&again, &taken(7), Some(&mark), Status::Restart, 100);
        assert_eq!((lines[0].difference, lines[0].status()), (1, "difference"));
        assert_eq!(of(&lines[0], "abandoned"), 3);
        let (_, lines) = reckon(&again, &taken(7), Some(&mark), Status::Minute, 120);
        assert_eq!((lines[0].difference, lines[0].status()), (0, "ok"));
    }

    #[test]
    fn other_counters_begin_anew() {
        let (mark, _) = reckon(
            &report(class(9, 9, 0, 0)),
            &taken(9),
            None,
            Status::Restart,
            60,
        );
        let mut other = report(class(2, 2, 0, 0));
        other.birth = 2;
        let (mark, lines) = reckon(&other, &taken(2), Some(&mark), Status::Minute, 120);
        assert_eq!(
            (mark.birth, of(&lines[0], "seen"), lines[0].difference),
            (2, 2, 0)
        );
    }

    #[test]
    fn a_mark_is_read_back() {
        let directory = std::env::temp_dir().join(format!("weir-mark-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(Mark::read(&directory), None);
        let (mark, _) = reckon(
            &report(class(1, 1, 0, 0)),
            &taken(1),
            None,
            Status::Minute,
            60,
        );
        mark.write(&directory).unwrap();
        assert_eq!(Mark::read(&directory), Some(mark));
        fs::write(directory.join(FILE), b"{").unwrap();
        assert_eq!(Mark::read(&directory), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
