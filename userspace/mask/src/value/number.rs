//! Numbers: integers, `numeric`, floating point, and numbers that are kept as text.

use weir_decide::{MaskKind, Span};

use super::One;
use super::token::permute_digits;
use crate::plan::Format;

/// Digits of a `numeric` that are looked at; a longer one is withheld.
const DIGITS_MAX: usize = 1000;

/// Two's complement, big-endian, of 2, 4 or 8 bytes; decimal in text.
pub(super) fn integer(one: &One<'_>, width: usize, value: &[u8], out: &mut Vec<u8>) -> bool {
    let number = match one.format {
        Format::Text => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i128>().ok()),
        Format::Binary if value.len() == width => Some(value.iter().fold(
            if value.first().is_some_and(|first| *first >= 0x80) {
                -1
            } else {
                0
            },
            |number: i128, byte| number << 8 | i128::from(*byte),
        )),
        Format::Binary => None,
    };
    let bits = u32::try_from(width * 8).unwrap_or(64);
    let (least, most) = (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1);
    let masked = number.and_then(|number| match one.kind {
        MaskKind::Range(Span::Step(step)) => {
            let step = i128::from(step);
            Some((number.div_euclid(step) * step).max(least))
        }
        MaskKind::Token => token(one, number, most),
        MaskKind::Hash => {
            let digest = one.digest(&number.to_be_bytes());
            let number = digest
                .iter()
                .take(8)
                .fold(0_i128, |n, byte| n << 8 | i128::from(*byte));
            Some(number & most)
        }
        MaskKind::Range(_) | MaskKind::Null | MaskKind::Redact | MaskKind::Partial { .. } => None,
    });
    let Some(masked) = masked else { return false };
    match one.format {
        Format::Text => out.extend_from_slice(masked.to_string().as_bytes()),
        Format::Binary => {
            let bytes = masked.to_be_bytes();
            out.extend_from_slice(bytes.get(16 - width.min(16)..).unwrap_or_default());
        }
    }
    true
}

/// As many digits, the same sign, within the type.
fn token(one: &One<'_>, number: i128, most: i128) -> Option<i128> {
    let mut digits: Vec<u16> = number
        .unsigned_abs()
        .to_string()
        .bytes()
        .map(|digit| u16::from(digit - b'0'))
        .collect();
    let value = |digits: &[u16]| {
        digits
            .iter()
            .fold(0_i128, |n, digit| n * 10 + i128::from(*digit))
    };
    let several = digits.len() > 1;
    let fits = |digits: &[u16]| (!several || digits.first() != Some(&0)) && value(digits) <= most;
    permute_digits(one.key, b"integer", &mut digits, fits).then(|| value(&digits) * number.signum())
}

/// A decimal number: sign, digits, and how many of them stand behind the point.
struct Decimal {
    negative: bool,
    digits: Vec<u16>,
    scale: usize,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() + part.len() > DIGITS_MAX
            || !plain(whole)
            || !plain(part)
        {
            return None;
        }
        let digits = whole
            .bytes()
            .chain(part.bytes())
            .map(|digit| u16::from(digit - b'0'));
        Some(Self {
            negative,
            digits: digits.collect(),
            scale: part.len(),
        })
    }

    /// `numeric_send`: groups of four digits, weight of the first, sign, digits behind the point.
    fn parse_binary(value: &[u8]) -> Option<Self> {
        let mut words = value.chunks_exact(2).map(|pair| {
            pair.iter()
                .fold(0_u16, |word, byte| word << 8 | u16::from(*byte))
        });
        let count = usize::from(words.next()?);
        let weight = words.next()?.cast_signed();
        let sign = words.next()?;
        let scale = usize::from(words.next()?);
        let groups: Vec<u16> = words.collect();
        let known = sign == 0 || sign == 0x4000;
        if !known || groups.len() != count || value.len() != 8 + 2 * count {
            return None;
        }
        let whole = usize::try_from(i32::from(weight) + 1).unwrap_or(0);
        if whole * 4 + scale > DIGITS_MAX || groups.iter().any(|group| *group > 9999) {
            return None;
        }
        let at = |place: i32| -> u16 {
            let index = i32::from(weight) - place;
            usize::try_from(index)
                .ok()
                .and_then(|index| groups.get(index))
                .copied()
                .unwrap_or(0)
        };
        let mut digits = Vec::new();
        let last = -i32::try_from(scale.div_ceil(4)).unwrap_or(0);
        for place in (last..=i32::from(weight).max(0)).rev() {
            let group = at(place);
            digits.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10]);
        }
        digits.truncate(digits.len() - (scale.div_ceil(4) * 4 - scale));
        let zeros = digits
            .iter()
            .take(digits.len().saturating_sub(scale + 1))
            .take_while(|digit| **digit == 0)
            .count();
        digits.drain(..zeros);
        Some(Self {
            negative: sign == 0x4000,
            digits,
            scale,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.negative {
            text.push('-');
        }
        let whole = self.digits.len() - self.scale;
        for (at, digit) in self.digits.iter().enumerate() {
            if at == whole {
                text.push('.');
            }
            text.extend(char::from_digit(u32::from(*digit), 10));
        }
        text
    }

    fn binary(&self, out: &mut Vec<u8>) {
        let whole = self.digits.len() - self.scale;
        let mut padded = vec![0; whole.div_ceil(4) * 4 - whole];
        padded.extend_from_slice(&self.digits);
        padded.resize(padded.len().div_ceil(4) * 4, 0);
        let mut groups: Vec<u16> = padded
            .chunks_exact(4)
            .map(|four| four.iter().fold(0, |group, digit| group * 10 + digit))
            .collect();
        let mut weight = i32::try_from(whole.div_ceil(4)).unwrap_or(0) - 1;
        let zeros = groups.iter().take_while(|group| **group == 0).count();
        groups.drain(..zeros);
        weight -= i32::try_from(zeros).unwrap_or(0);
        while groups.last() == Some(&0) {
            groups.pop();
        }
        if groups.is_empty() {
            weight = 0;
        }
        let mut word = |word: u16| out.extend_from_slice(&word.to_be_bytes());
        word(u16::try_from(groups.len()).unwrap_or(0));
        word(i16::try_from(weight).unwrap_or(0).cast_unsigned());
        word(if self.negative && !groups.is_empty() {
            0x4000
        } else {
            0
        });
        word(u16::try_from(self.scale).unwrap_or(0));
        groups.into_iter().for_each(word);
    }

    /// The greatest multiple of `step` that is not above it; without digits behind the point.
    fn floor(&self, step: u64) -> Option<Self> {
        let whole = self.digits.len() - self.scale;
        if whole > 36 {
            return None;
        }
        let (whole, part) = self.digits.split_at(whole);
        let number = whole
            .iter()
            .fold(0_i128, |n, digit| n * 10 + i128::from(*digit));
        let number = match (self.negative, part.iter().any(|digit| *digit != 0)) {
            (true, true) => -number - 1,
            (true, false) => -number,
            (false, _) => number,
        };
        let step = i128::from(step);
        Self::parse(&(number.div_euclid(step) * step).to_string())
    }

    /// As many digits before and behind the point.
    fn token(mut self, one: &One<'_>) -> Option<Self> {
        let whole = self.digits.len() - self.scale;
        let form = format!("decimal {whole} {}", self.scale);
        let small = whole == 1 && self.digits.first() == Some(&0);
        if small {
            // 0.05 stays below 1.
            let mut part = self.digits.split_off(1);
            let done =
                part.len() < 2 || permute_digits(one.key, form.as_bytes(), &mut part, |_| true);
            self.digits.append(&mut part);
            return (done && self.scale > 1).then_some(self);
        }
        let fits = |digits: &[u16]| digits.first() != Some(&0);
        permute_digits(one.key, form.as_bytes(), &mut self.digits, fits).then_some(self)
    }
}

/// `numeric` in text and binary; NaN and infinities have no masked form.
pub(super) fn decimal(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let number = match one.format {
        Format::Text => std::str::from_utf8(value).ok().and_then(Decimal::parse),
        Format::Binary => Decimal::parse_binary(value),
    };
    let masked = number.and_then(|number| match one.kind {
        MaskKind::Range(Span::Step(step)) => number.floor(step),
        MaskKind::Token => number.token(one),
        MaskKind::Hash => {
            let digest = one.digest(number.text().as_bytes());
            let number = digest
                .iter()
                .take(7)
                .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
            Decimal::parse(&number.to_string())
        }
        MaskKind::Range(_) | MaskKind::Null | MaskKind::Redact | MaskKind::Partial { .. } => None,
    });
    let Some(masked) = masked else { return false };
    match one.format {
        Format::Text => out.extend_from_slice(masked.text().as_bytes()),
        Format::Binary => masked.binary(out),
    }
    true
}

/// `numeric` of the binary format as text.
pub(super) fn decimal_text(value: &[u8]) -> Option<String> {
    Decimal::parse_binary(value).map(|decimal| decimal.text())
}

/// IEEE 754, big-endian, of 4 or 8 bytes. Only spans: equal values of floating point mean little.
pub(super) fn float(one: &One<'_>, width: usize, value: &[u8], out: &mut Vec<u8>) -> bool {
    let MaskKind::Range(Span::Step(step)) = one.kind else {
        return false;
    };
    let number = match (one.format, width) {
        (Format::Text, _) => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<f64>().ok()),
        (Format::Binary, 4) => value
            .try_into()
            .ok()
            .map(|bytes| f64::from(f32::from_be_bytes(bytes))),
        (Format::Binary, _) => value.try_into().ok().map(f64::from_be_bytes),
    };
    let Some(number) = number.filter(|number| number.abs() < 1e15) else {
        return false;
    };
    let step = step as f64;
    let masked = (number / step).floor() * step;
    match (one.format, width) {
        (Format::Text, _) => out.extend_from_slice(masked.to_string().as_bytes()),
        (Format::Binary, 4) => out.extend_from_slice(&(masked as f32).to_be_bytes()),
        (Format::Binary, _) => out.extend_from_slice(&masked.to_be_bytes()),
    }
    true
}

/// A number that is kept as text.
pub(super) fn step_text(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let MaskKind::Range(Span::Step(step)) = one.kind else {
        return false;
    };
    let number = std::str::from_utf8(value).ok().and_then(Decimal::parse);
    let Some(masked) = number.and_then(|number| number.floor(step)) else {
        return false;
    };
    out.extend_from_slice(masked.text().as_bytes());
    true
}

#[cfg(test)]
pub(super) fn decimal_binary_of(text: &str, out: &mut Vec<u8>) {
    Decimal::parse(text).expect("a number").binary(out);
}
