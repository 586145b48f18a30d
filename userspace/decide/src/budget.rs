//! Budgets: how much a principal may use in one session or in a time, and how much of it is used.
//!
//! What policy grants is a [`Budget`]. What is used of it is kept by its rule: for a session in its
//! [`crate::Bound`], for a time in the [`Budgets`] of a target, so that many short sessions spend
//! the same budget as a long one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use weir_model::time::Now;

use crate::outcome::Denial;

/// Principals times rules; behind it, what is over is forgotten.
const ACCOUNTS_MAX: usize = 65_536;
const SECOND_US: i64 = 1_000_000;

/// What a rule grants (`@budget`); `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub rule: Arc<str>,
    /// The rule's `@reason`, and its `@advice`.
    pub reason: String,
    pub advice: Option<String>,
    /// What it is in policy's words.
    pub text: Arc<str>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    pub statements: Option<u64>,
    /// Of statements at work, without the time that they were held.
    pub seconds: Option<u64>,
    /// It begins anew that long after its first use; `None`: it is the session's.
    pub window_s: Option<u32>,
}

/// What is used of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    /// When the window began, microseconds since the Unix epoch.
    since_us: i64,
    rows: u64,
    bytes: u64,
    statements: u64,
    time_us: u64,
}

type Shared = Arc<Mutex<Used>>;

/// A panic elsewhere leaves plain numbers, which are as good as before.
fn locked(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Used {
    /// Begins anew when the window is over. A clock that was set back ends no window.
    fn roll(&mut self, budget: &Budget, now: Now) {
        let Some(window_s) = budget.window_s else {
            return;
        };
        let ends_us = self.since_us + i64::from(window_s) * SECOND_US;
        if self.since_us == 0 || now.wall_us >= ends_us {
            *self = Self {
                since_us: now.wall_us,
                ..Self::default()
            };
        }
    }

    fn is_used_up(&self, budget: &Budget) -> bool {
        let reached = |max: Option<u64>, used: u64| max.is_some_and(|max| used >= max);
        reached(budget.rows, self.rows)
            || reached(budget.bytes, self.bytes)
            || reached(budget.statements, self.statements)
            || reached(budget.seconds.map(micros), self.time_us)
    }

    /// The greater of both: nothing that was used is forgotten.
    fn join(&mut self, other: &Self) {
        if other.since_us > self.since_us {
            *self = *other;
        } else if other.since_us == self.since_us {
            self.rows = self.rows.max(other.rows);
            self.bytes = self.bytes.max(other.bytes);
            self.statements = self.statements.max(other.statements);
            self.time_us = self.time_us.max(other.time_us);
        }
    }
}

fn micros(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000)
}

/// By principal and rule.
type ByPrincipal = HashMap<(Arc<str>, Arc<str>), Shared>;

/// What principals used at one target, for budgets that begin anew.
#[derive(Clone, Default)]
pub struct Budgets(Arc<Mutex<ByPrincipal>>);

impl fmt::Debug for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

impl Budgets {
    fn account(&self, principal: &Arc<str>, budget: &Budget) -> Shared {
        let key = (Arc::clone(principal), Arc::clone(&budget.rule));
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= ACCOUNTS_MAX && !accounts.contains_key(&key) {
            // Those in use stay; a window that nobody has open may begin anew too early then.
            accounts.retain(|_, used| Arc::strong_count(used) > 1);
        }
        Arc::clone(accounts.entry(key).or_default())
    }
}

/// The accounts of one session: its own, and where those of its principal are.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    principal: Arc<str>,
    shared: Budgets,
    own: HashMap<Arc<str>, Shared>,
    /// Shared ones that this session used, which is what it takes along when it moves.
    touched: HashMap<Arc<str>, Shared>,
}

/// The accounts on their way to the next node process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SavedAccounts {
    own: Vec<(Arc<str>, Used)>,
    shared: Vec<(Arc<str>, Used)>,
}

impl Accounts {
    pub(crate) fn of(principal: Arc<str>) -> Self {
        Self {
            principal,
            ..Self::default()
        }
    }

    pub(crate) fn share(&mut self, shared: &Budgets) {
        self.shared = shared.clone();
    }

    /// Policy was bound anew: what was used stays used.
    pub(crate) fn take_over(&mut self, before: &mut Self) {
        self.own = std::mem::take(&mut before.own);
        self.touched = std::mem::take(&mut before.touched);
        // Else the session has another principal now.
        if self.principal != before.principal {
            self.touched.clear();
        }
    }

    pub(crate) fn spending(&mut self, budgets: &[Budget]) -> Spending {
        let accounts = budgets.iter().map(|budget| {
            let used = match budget.window_s {
                None => Arc::clone(self.own.entry(Arc::clone(&budget.rule)).or_default()),
                Some(_) => {
                    let used = self.shared.account(&self.principal, budget);
                    self.touched
                        .insert(Arc::clone(&budget.rule), Arc::clone(&used));
                    used
                }
            };
            (budget.clone(), used)
        });
        Spending(accounts.collect())
    }

    pub(crate) fn save(&self) -> SavedAccounts {
        let list = |accounts: &HashMap<Arc<str>, Shared>| {
            let saved = accounts
                .iter()
                .map(|(rule, used)| (Arc::clone(rule), *locked(used)));
            saved.collect()
        };
        SavedAccounts {
            own: list(&self.own),
            shared: list(&self.touched),
        }
    }

    pub(crate) fn restore(&mut self, saved: SavedAccounts) {
        for (rule, used) in saved.own {
            self.own.insert(rule, Arc::new(Mutex::new(used)));
        }
        for (rule, used) in saved.shared {
            let key = (Arc::clone(&self.principal), Arc::clone(&rule));
            let mut accounts = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
            let account = Arc::clone(accounts.entry(key).or_default());
            drop(accounts);
            locked(&account).join(&used);
            self.touched.insert(rule, account);
        }
    }
}

/// What one request is charged to.
#[derive(Clone, Debug, Default)]
pub struct Spending(Vec<(Budget, Shared)>);

impl Spending {
    /// Nothing is counted.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.0.is_empty()
    }

    /// A request begins: counted as a statement, unless a budget is used up.
    ///
    /// # Errors
    /// The denial, with what is used up and when it begins anew.
    pub fn begin(&self, now: Now) -> Result<(), Denial> {
        for (at, (budget, used)) in self.0.iter().enumerate() {
            let mut used = locked(used);
            used.roll(budget, now);
            if used.is_used_up(budget) {
                let denial = denial(budget, &used, now);
                drop(used);
                for (_, earlier) in self.0.get(..at).unwrap_or_default() {
                    let mut earlier = locked(earlier);
                    earlier.statements = earlier.statements.saturating_sub(1);
                }
                return Err(denial);
            }
            used.statements = used.statements.saturating_add(1);
        }
        Ok(())
    }

    /// Charges what is about to reach the agent; false, and nothing is charged, when it is more than
    /// is left. A result is charged to the window in which it began.
    #[must_use]
    pub fn take(&self, rows: u64, bytes: u64) -> bool {
        for (at, (budget, used)) in self.0.iter().enumerate() {
            let mut used = locked(used);
            let after = |used: u64, more: u64| used.saturating_add(more);
            let fits = budget.rows.is_none_or(|max| after(used.rows, rows) <= max)
                && budget
                    .bytes
                    .is_none_or(|max| after(used.bytes, bytes) <= max);
            if !fits {
                drop(used);
                for (_, earlier) in self.0.get(..at).unwrap_or_default() {
                    let mut earlier = locked(earlier);
                    earlier.rows = earlier.rows.saturating_sub(rows);
                    earlier.bytes = earlier.bytes.saturating_sub(bytes);
                }
                return false;
            }
            used.rows = after(used.rows, rows);
            used.bytes = after(used.bytes, bytes);
        }
        true
    }

    /// Charges what an agent got already, and time at work.
    pub fn spent(&self, rows: u64, bytes: u64, time_us: u64) {
        for (_, used) in &self.0 {
            let mut used = locked(used);
            used.rows = used.rows.saturating_add(rows);
            used.bytes = used.bytes.saturating_add(bytes);
            used.time_us = used.time_us.saturating_add(time_us);
        }
    }

    /// Microseconds that a request may still be at work; `None` without a limit.
    #[must_use]
    pub fn time_left_us(&self) -> Option<u64> {
        let left = self.0.iter().filter_map(|(budget, used)| {
            let max = budget.seconds.map(micros)?;
            Some(max.saturating_sub(locked(used).time_us))
        });
        left.min()
    }

    /// The rules, joined by `, `.
    #[must_use]
    pub fn rules(&self) -> String {
        let rules: Vec<&str> = self.0.iter().map(|(budget, _)| &*budget.rule).collect();
        rules.join(", ")
    }
}

fn denial(budget: &Budget, used: &Used, now: Now) -> Denial {
    let again = match budget.window_s {
        None => "it is good for a new session".to_owned(),
        Some(window_s) => {
            let ends_us = used.since_us + i64::from(window_s) * SECOND_US;
            let left_s = (ends_us - now.wall_us).max(0) / SECOND_US + 1;
            format!("it begins anew in {left_s} s")
        }
    };
    let what = format!("the budget of {} is used up; {again}", budget.text);
    let reason = if budget.reason.is_empty() {
        what
    } else {
        format!("{} ({what})", budget.reason)
    };
    Denial {
        rule: Arc::clone(&budget.rule),
        reason,
        access: None,
        advice: budget.advice.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Now {
        Now {
            mono_us: 1,
            wall_us: 1_800_000_000_000_000 + seconds * SECOND_US,
        }
    }

    fn budget(window_s: Option<u32>) -> Budget {
        Budget {
            rule: Arc::from("few"),
            reason: String::new(),
            advice: None,
            text: Arc::from("rows:10,statements:3 per 1m"),
            rows: Some(10),
            bytes: None,
            statements: Some(3),
            seconds: Some(5),
            window_s,
        }
    }

    fn accounts(shared: &Budgets) -> Accounts {
        let mut accounts = Accounts::of(Arc::from("t/o"));
        accounts.share(shared);
        accounts
    }

    #[test]
    fn sessions_of_a_principal_share_a_window_and_not_what_is_per_session() {
        let shared = Budgets::default();
        let (mut one, mut two) = (accounts(&shared), accounts(&shared));
        let mut other = Accounts::of(Arc::from("t/other"));
        other.share(&shared);
        let windowed = [budget(Some(60))];
        one.spending(&windowed).begin(at(0)).unwrap();
        assert!(one.spending(&windowed).take(8, 0));
        assert!(!two.spending(&windowed).take(3, 0));
        assert!(two.spending(&windowed).take(2, 0));
        two.spending(&windowed).begin(at(1)).unwrap_err();
        assert!(other.spending(&windowed).take(10, 0));
        let own = [budget(None)];
        assert!(one.spending(&own).take(10, 0) && !one.spending(&own).take(1, 0));
        assert!(two.spending(&own).take(10, 0));
    }

    #[test]
    fn a_window_begins_anew_and_says_when() {
        let mut accounts = accounts(&Budgets::default());
        let spending = accounts.spending(&[budget(Some(60))]);
        for _statement in 0..3 {
            spending.begin(at(0)).unwrap();
        }
        let denial = spending.begin(at(20)).unwrap_err();
        assert_eq!(&*denial.rule, "few");
        assert!(
            denial.reason.ends_with("it begins anew in 41 s"),
            "{}",
            denial.reason
        );
        spending.begin(at(60)).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_charged_nowhere() {
        let mut accounts = accounts(&Budgets::default());
        let wide = Budget {
            rule: Arc::from("wide"),
            rows: Some(100),
            ..budget(None)
        };
        let spending = accounts.spending(&[wide, budget(None)]);
        assert!(spending.take(9, 5) && !spending.take(2, 5));
        let saved = accounts.save();
        assert!(saved.own.iter().all(|(_, used)| used.rows == 9));
        let both = accounts.spending(&[budget(None)]);
        both.spent(0, 0, 4_000_000);
        assert_eq!(both.time_left_us(), Some(1_000_000));
        both.spent(0, 0, 2_000_000);
        assert_eq!(both.time_left_us(), Some(0));
        assert!(both.begin(at(0)).is_err());
    }

    #[test]
    fn what_was_used_moves_with_a_session() {
        let mut before = accounts(&Budgets::default());
        let both = [budget(None), budget(Some(60))];
        let spending = before.spending(&both);
        spending.begin(at(0)).unwrap();
        assert!(spending.take(7, 0));
        let next = Budgets::default();
        let mut after = accounts(&next);
        after.restore(before.save());
        assert!(!after.spending(&both[..1]).take(4, 0));
        // Another session of that principal finds the window used there, too.
        assert!(!accounts(&next).spending(&both[1..]).take(4, 0));
        assert!(accounts(&next).spending(&both[1..]).take(3, 0));
    }
}
