//! Checks that tell a number or token from something that only looks like it.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// No number that is checked here has more digits.
const DIGITS_MAX: usize = 20;

/// The digits of a text, without what stands between them.
struct Digits {
    digits: [u8; DIGITS_MAX],
    count: usize,
}

impl Digits {
    fn of(text: &[u8]) -> Self {
        let mut digits = [0; DIGITS_MAX];
        let found = text.iter().filter(|byte| byte.is_ascii_digit());
        let mut count = 0;
        for (digit, place) in found.zip(&mut digits) {
            *place = digit - b'0';
            count += 1;
        }
        Self { digits, count }
    }

    fn all(&self) -> &[u8] {
        self.digits.get(..self.count).unwrap_or_default()
    }

    fn number(&self, range: Range<usize>) -> u32 {
        let part = self.all().get(range).unwrap_or_default();
        part.iter()
            .fold(0, |sum, digit| sum * 10 + u32::from(*digit))
    }
}

/// Issuer and length (ISO/IEC 7812 as the schemes publish it), then Luhn (annex B).
pub(super) fn payment_card(text: &[u8]) -> bool {
    let digits = Digits::of(text);
    let head = digits.number(0..4);
    let lengths: &[usize] = match head {
        4000..=4999 => &[13, 16, 19],
        5100..=5599 | 2221..=2720 => &[16],
        3400..=3499 | 3700..=3799 => &[15],
        3000..=3059 | 3600..=3699 | 3800..=3999 => &[14, 16, 19],
        6011 | 6440..=6499 | 6500..=6599 => &[16, 19],
        3528..=3589 => &[16, 17, 18, 19],
        6200..=6299 | 8100..=8199 => &[16, 17, 18, 19],
        2200..=2204 => &[16],
        5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763 => &[12, 13, 14, 15, 16, 17, 18, 19],
        _ => &[],
    };
    lengths.contains(&digits.count) && luhn(digits.all())
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let doubled = u32::from(*digit) << (at % 2);
            doubled / 10 + doubled % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Lengths of the SWIFT IBAN registry.
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// Length of the country, and remainder 1 modulo 97 (ISO 13616).
pub(super) fn iban(text: &[u8]) -> bool {
    let plain: Vec<u8> = text.iter().copied().filter(|byte| *byte != b' ').collect();
    let country = plain.get(..2);
    let length = IBAN_LENGTHS
        .iter()
        .find(|(code, _)| country == Some(code.as_slice()));
    if length.is_none_or(|(_, length)| *length != plain.len()) {
        return false;
    }
    let (head, tail) = plain.split_at(4.min(plain.len()));
    let remainder = tail.iter().chain(head).fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

/// Numbers that are never issued (SSA): area 000, 666, 9xx; group 00; serial 0000.
pub(super) fn us_ssn(text: &[u8]) -> bool {
    let digits = Digits::of(text);
    let area = digits.number(0..3);
    let issued = area != 0 && area != 666 && area < 900;
    issued && digits.number(3..5) != 0 && digits.number(5..9) != 0
}

pub(super) fn phone(text: &[u8]) -> bool {
    (8..=15).contains(&Digits::of(text).count)
}

/// The first part is a JSON object with `alg` (RFC 7515, 4.1.1).
pub(super) fn jwt(text: &[u8]) -> bool {
    let head = text.split(|byte| *byte == b'.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD.decode(head).unwrap_or_default();
    let value = serde_json::from_slice::<serde_json::Value>(&json);
    value.is_ok_and(|value| value.get("alg").is_some_and(serde_json::Value::is_string))
}

/// The value of an assignment, without quotes; a variable or a placeholder is none.
pub(super) fn assigned(text: &[u8]) -> Option<Range<usize>> {
    let sign = text.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let after = text.get(sign + 1..)?;
    let mut start = sign + 1 + after.iter().take_while(|byte| blank(byte)).count();
    // Without a blank, `password:` is code or a name far more often than a value.
    if text.get(sign) == Some(&b':') && start == sign + 1 && text.get(start) != Some(&b'"') {
        return None;
    }
    let mut end = text.len();
    // A closing quote may be missing where the output was cut.
    if let Some(quote @ (b'"' | b'\'')) = text.get(start) {
        start += 1;
        end -= usize::from(end > start && text.get(end - 1) == Some(quote));
    }
    let value = text.get(start..end).filter(|value| !value.is_empty())?;
    is_secret(value).then_some(start..end)
}

fn is_secret(value: &[u8]) -> bool {
    let first = value.first().copied().unwrap_or_default();
    let filler = value
        .iter()
        .all(|byte| *byte == first && byte.is_ascii_punctuation());
    !filler && !matches!(first, b'$' | b'%' | b'<' | b'{' | b'[' | b'=' | b':')
}

/// What stands between the user and `@`.
pub(super) fn url_password(text: &[u8]) -> Option<Range<usize>> {
    let scheme = text.windows(3).position(|three| three == b"://")?;
    let user = text
        .get(scheme + 3..)?
        .iter()
        .position(|byte| *byte == b':')?;
    let (start, end) = (scheme + 3 + user + 1, text.len().checked_sub(1)?);
    is_secret(text.get(start..end)?).then_some(start..end)
}
