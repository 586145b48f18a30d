//! Time as a parameter. Pure crates get `Now`; only `clock`, `relay` and `enforcer` make one.

use std::collections::BTreeSet;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds of a monotonic clock; only differences mean anything.
    pub mono_us: u64,
    /// Microseconds since the Unix epoch, UTC.
    pub wall_us: i64,
}

impl Now {
    /// The monotonic instant `millis` later, in microseconds.
    #[must_use]
    pub const fn mono_after_ms(self, millis: u64) -> u64 {
        self.mono_us.saturating_add(millis.saturating_mul(1000))
    }

    /// Wall-clock seconds since the Unix epoch.
    #[must_use]
    pub const fn unix_s(self) -> i64 {
        self.wall_us.div_euclid(1_000_000)
    }
}

/// What answers depend on of the date, the time and the weekday (in UTC) at which they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimesRead {
    /// `20261224`.
    pub date: Cuts,
    /// `1830` is half past six in the evening.
    pub time: Cuts,
    /// Monday is 1, Sunday 7.
    pub weekday: Cuts,
}

/// What answers depend on of one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// How it compares with these; without any, nothing.
    At(BTreeSet<i64>),
    /// All of it.
    Each,
}

impl Default for Cuts {
    fn default() -> Self {
        Self::At(BTreeSet::new())
    }
}

impl Cuts {
    /// It is compared with `number` as well.
    pub fn add(&mut self, number: i64) {
        if let Self::At(cuts) = self {
            cuts.insert(number);
        }
    }

    /// Numbers of one class compare alike.
    #[must_use]
    pub fn class(&self, number: i64) -> i64 {
        match self {
            Self::At(cuts) => {
                let below = i64::try_from(cuts.range(..number).count()).unwrap_or(i64::MAX / 2);
                below * 2 + i64::from(cuts.contains(&number))
            }
            Self::Each => number,
        }
    }

    fn join(&mut self, other: &Self) {
        match other {
            Self::At(cuts) => cuts.iter().for_each(|cut| self.add(*cut)),
            Self::Each => *self = Self::Each,
        }
    }
}

impl TimesRead {
    /// All of it.
    #[must_use]
    pub const fn each() -> Self {
        Self {
            date: Cuts::Each,
            time: Cuts::Each,
            weekday: Cuts::Each,
        }
    }

    /// False when time does not matter at all.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// What depends on either.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        self.date.join(&other.date);
        self.time.join(&other.time);
        self.weekday.join(&other.weekday);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_class_compare_alike() {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.class(-4), cuts.class(1830));
        cuts.add(600);
        cuts.add(1800);
        let classes: Vec<i64> = [0, 599, 600, 601, 1799, 1800, 1801]
            .map(|number| cuts.class(number))
            .into();
        assert_eq!(classes, [0, 0, 1, 2, 2, 3, 4]);
        let other = TimesRead {
            time: cuts,
            ..TimesRead::default()
        };
        assert!(other.any() && !TimesRead::default().any());
        let both = other.clone().joined(&TimesRead {
            weekday: Cuts::Each,
            ..TimesRead::default()
        });
        assert_eq!(both.time, other.time);
        assert_eq!(both.weekday.class(6), 6);
        assert_eq!(other.joined(&TimesRead::each()), TimesRead::each());
    }
}
