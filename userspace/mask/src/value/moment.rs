//! Dates and timestamps: the first day of the month, year or decade that they lie in.

use weir_decide::{MaskKind, Span};

use super::One;
use super::token::permute_digits;
use crate::plan::Format;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_DAYS: i64 = 10_957;
const DAY_US: i64 = 86_400_000_000;
/// Tokens are days of these years: 1900 to 2099.
const TOKEN_YEARS: std::ops::RangeInclusive<i64> = 1900..=2099;

/// Year, month and day of the proleptic Gregorian calendar.
#[derive(Clone, Copy)]
struct Day {
    year: i64,
    month: i64,
    day: i64,
}

impl Day {
    /// Of a number of days since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    const fn of(days: i64) -> Self {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let part = (5 * of_year + 2) / 153;
        let month = if part < 10 { part + 3 } else { part - 9 };
        let late = if month <= 2 { 1 } else { 0 };
        Self {
            year: year + era * 400 + late,
            month,
            day: of_year - (153 * part + 2) / 5 + 1,
        }
    }

    const fn days(self) -> i64 {
        let year = if self.month <= 2 {
            self.year - 1
        } else {
            self.year
        };
        let era = year.div_euclid(400);
        let of_era_years = year.rem_euclid(400);
        let month = (self.month + 9) % 12;
        let of_year = (153 * month + 2) / 5 + self.day - 1;
        let of_era = of_era_years * 365 + of_era_years / 4 - of_era_years / 100 + of_year;
        era * 146_097 + of_era - 719_468
    }

    /// `YYYY-MM-DD`, alone or before a time; years before Christ are not read.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let end = text.find([' ', 'T']).unwrap_or(text.len());
        let (date, rest) = text.split_at(end);
        let mut parts = date.split('-');
        let mut next = |least: usize, most: usize| {
            let part = parts.next()?;
            let fits =
                (least..=most).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            fits.then(|| part.parse::<i64>().ok()).flatten()
        };
        let day = Self {
            year: next(4, 6)?,
            month: next(2, 2)?,
            day: next(2, 2)?,
        };
        let real = (1..=12).contains(&day.month) && (1..=31).contains(&day.day);
        (real && parts.next().is_none() && !rest.ends_with("BC")).then_some((day, rest))
    }

    fn floor(self, kind: MaskKind) -> Option<Self> {
        let MaskKind::Range(span) = kind else {
            return None;
        };
        let (year, month) = match span {
            Span::Month => (self.year, self.month),
            Span::Year => (self.year, 1),
            Span::Decade => (self.year.div_euclid(10) * 10, 1),
            Span::Step(_) => return None,
        };
        Some(Self {
            year,
            month,
            day: 1,
        })
    }

    fn text(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Days since 2000-01-01 in 4 bytes; ISO in text.
pub(super) fn date(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let day = match one.format {
        Format::Text => std::str::from_utf8(value)
            .ok()
            .and_then(Day::parse)
            .and_then(|(day, rest)| rest.is_empty().then_some(day)),
        Format::Binary => <[u8; 4]>::try_from(value)
            .ok()
            .map(i32::from_be_bytes)
            // The ends of the range are infinities.
            .filter(|days| ![i32::MIN, i32::MAX].contains(days))
            .map(|days| Day::of(i64::from(days) + EPOCH_DAYS)),
    };
    let masked = day.and_then(|day| match one.kind {
        MaskKind::Token => token(one, day),
        MaskKind::Range(_) => day.floor(one.kind),
        MaskKind::Null | MaskKind::Redact | MaskKind::Hash | MaskKind::Partial { .. } => None,
    });
    let Some(masked) = masked else { return false };
    match one.format {
        Format::Text => out.extend_from_slice(masked.text().as_bytes()),
        Format::Binary => {
            let Ok(days) = i32::try_from(masked.days() - EPOCH_DAYS) else {
                return false;
            };
            out.extend_from_slice(&days.to_be_bytes());
        }
    }
    true
}

/// A date of the binary format as text.
pub(super) fn date_text(value: &[u8]) -> Option<String> {
    let days = i32::from_be_bytes(value.try_into().ok()?);
    let day = Day::of(i64::from(days) + EPOCH_DAYS);
    (day.year > 0 && days != i32::MAX).then(|| day.text())
}

/// A timestamp of the binary format as text.
pub(super) fn timestamp_text(value: &[u8]) -> Option<String> {
    let micros = i64::from_be_bytes(value.try_into().ok()?);
    let day = Day::of(micros.div_euclid(DAY_US) + EPOCH_DAYS);
    if day.year <= 0 || micros == i64::MAX {
        return None;
    }
    let of_day = micros.rem_euclid(DAY_US);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{} {hour:02}:{minute:02}:{second:02}", day.text());
    if fraction > 0 {
        text.push_str(format!(".{fraction:06}").trim_end_matches('0'));
    }
    Some(text)
}

fn token(one: &One<'_>, day: Day) -> Option<Day> {
    let first = Day {
        year: *TOKEN_YEARS.start(),
        month: 1,
        day: 1,
    }
    .days();
    let count = Day {
        year: *TOKEN_YEARS.end() + 1,
        month: 1,
        day: 1,
    }
    .days()
        - first;
    let at = day.days() - first;
    if !(0..count).contains(&at) {
        return None;
    }
    let mut digits: Vec<u16> = format!("{at:05}")
        .bytes()
        .map(|digit| u16::from(digit - b'0'))
        .collect();
    let value = |digits: &[u16]| digits.iter().fold(0, |n, digit| n * 10 + i64::from(*digit));
    permute_digits(one.key, b"date", &mut digits, |digits| {
        value(digits) < count
    })
    .then(|| Day::of(first + value(&digits)))
}

/// Microseconds since 2000-01-01 in 8 bytes, of UTC when there is a zone; ISO in text, with the zone
/// that the session shows.
pub(super) fn timestamp(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    match one.format {
        Format::Text => text(one, value, out),
        Format::Binary => {
            let micros = <[u8; 8]>::try_from(value)
                .ok()
                .map(i64::from_be_bytes)
                .filter(|micros| ![i64::MIN, i64::MAX].contains(micros));
            let masked = micros
                .and_then(|micros| Day::of(micros.div_euclid(DAY_US) + EPOCH_DAYS).floor(one.kind))
                .and_then(|day| (day.days() - EPOCH_DAYS).checked_mul(DAY_US));
            let Some(masked) = masked else { return false };
            out.extend_from_slice(&masked.to_be_bytes());
            true
        }
    }
}

/// A date or timestamp as text: midnight of the first day, what says the zone kept.
pub(super) fn text(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((day, rest)) = std::str::from_utf8(value).ok().and_then(Day::parse) else {
        return false;
    };
    let Some(masked) = day.floor(one.kind) else {
        return false;
    };
    out.extend_from_slice(masked.text().as_bytes());
    if rest.is_empty() {
        return true;
    }
    // `HH:MM:SS`, a fraction, then the zone.
    let Some(zone) = rest
        .get(1..)
        .and_then(|time| time.find(['+', '-', 'Z']).map(|at| &time[at..]))
    else {
        let plain = rest
            .bytes()
            .skip(1)
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
        if plain {
            out.extend_from_slice(rest.get(..1).unwrap_or(" ").as_bytes());
            out.extend_from_slice(b"00:00:00");
        }
        return plain;
    };
    let known = zone.len() <= 9
        && zone
            .bytes()
            .skip(1)
            .all(|byte| byte.is_ascii_digit() || byte == b':');
    if known {
        out.extend_from_slice(rest.get(..1).unwrap_or(" ").as_bytes());
        out.extend_from_slice(b"00:00:00");
        out.extend_from_slice(zone.as_bytes());
    }
    known
}
