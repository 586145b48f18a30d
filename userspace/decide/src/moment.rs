//! The time of a request as policy sees it, in UTC.

use time::OffsetDateTime;
use weir_model::time::{Cuts, Now, TimesRead};

/// Names of the attributes that every context has.
pub(crate) const DATE: &str = "date";
pub(crate) const TIME: &str = "time";
pub(crate) const WEEKDAY: &str = "weekday";

/// To the minute: decisions that read it are kept as long as it stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// `20261224`.
    pub(crate) date: i64,
    /// `1830` is half past six in the evening.
    pub(crate) time: i64,
    /// Monday is 1, Sunday 7.
    pub(crate) weekday: i64,
}

impl Moment {
    pub(crate) fn of(now: Now) -> Self {
        let seconds = now.wall_us.div_euclid(1_000_000);
        // Out of range only with a clock of another age: then no window of dates is met by chance.
        let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else {
            return Self::default();
        };
        Self {
            date: i64::from(at.year()) * 10_000
                + i64::from(u8::from(at.month())) * 100
                + i64::from(at.day()),
            time: i64::from(at.hour()) * 100 + i64::from(at.minute()),
            weekday: i64::from(at.weekday().number_from_monday()),
        }
    }

    /// By the attribute's name.
    pub(crate) fn attribute(self, name: &str) -> Option<i64> {
        match name {
            DATE => Some(self.date),
            TIME => Some(self.time),
            WEEKDAY => Some(self.weekday),
            _ => None,
        }
    }
}

/// Moments of one class have equal answers.
pub(crate) type Class = [i64; 3];

impl Moment {
    pub(crate) fn class(self, read: &TimesRead) -> Class {
        [
            read.date.class(self.date),
            read.time.class(self.time),
            read.weekday.class(self.weekday),
        ]
    }
}

/// By the attribute's name; nothing else is a moment's.
pub(crate) fn part<'a>(read: &'a mut TimesRead, name: &str) -> Option<&'a mut Cuts> {
    match name {
        DATE => Some(&mut read.date),
        TIME => Some(&mut read.time),
        WEEKDAY => Some(&mut read.weekday),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_utc() {
        let now = Now {
            mono_us: 0,
            // Thursday, 24 December 2026, 18:30:59 UTC.
            wall_us: 1_798_137_059_000_000,
        };
        let moment = Moment::of(now);
        assert_eq!(
            (moment.date, moment.time, moment.weekday),
            (20_261_224, 1830, 4)
        );
    }
}
