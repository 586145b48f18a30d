//! Tokens that keep the form of a value: a keyed permutation of all values of one form.
//!
//! A Feistel network over symbols of mixed radix, with a keyed BLAKE3 as round function (the shape of
//! FF1 in NIST SP 800-38G, whose radix is one for all symbols). Being a permutation, it never gives two
//! values of one form the same token, which is what keeps joins right.

use crate::key::MaskKey;

/// FF1 has ten.
const ROUNDS: u8 = 10;

/// Permutes symbols in place; each stays below its radix. `form` keeps values of other forms apart.
pub(super) fn permute(key: &MaskKey, form: &[u8], radices: &[u16], symbols: &mut [u16]) {
    let middle = symbols.len() / 2;
    for round in 0..ROUNDS {
        let (left, right) = symbols.split_at_mut(middle);
        let (left_radices, right_radices) = radices.split_at(middle.min(radices.len()));
        if round % 2 == 0 {
            add(key, (form, round), right, left_radices, left);
        } else {
            add(key, (form, round), left, right_radices, right);
        }
    }
}

/// Adds a keyed function of `from` to each symbol of `to`.
fn add(key: &MaskKey, round: (&[u8], u8), from: &[u16], radices: &[u16], to: &mut [u16]) {
    let mut hasher = key.hasher("token");
    hasher.update(&(round.0.len() as u64).to_le_bytes());
    hasher.update(round.0);
    hasher.update(&[round.1]);
    for symbol in from {
        hasher.update(&symbol.to_le_bytes());
    }
    let mut stream = hasher.finalize_xof();
    let mut bytes = [0; 8];
    for (symbol, radix) in to.iter_mut().zip(radices) {
        stream.fill(&mut bytes);
        let radix = u64::from((*radix).max(1));
        let sum = u64::from(*symbol) + u64::from_le_bytes(bytes) % radix;
        *symbol = u16::try_from(sum % radix).unwrap_or(0);
    }
}

/// Letters become letters, digits digits; everything else stays where it is, but letters outside
/// ASCII, which become small letters. False when the text has fewer than two symbols to change.
pub(crate) fn permuted_text(key: &MaskKey, text: &str, out: &mut Vec<u8>) -> bool {
    if text.contains('\0') {
        return false;
    }
    let mut form = Vec::with_capacity(text.len());
    let mut radices = Vec::new();
    let mut symbols = Vec::new();
    for c in text.chars() {
        let (class, radix, symbol) = match c {
            '0'..='9' => (b'0', 10, u32::from(c) - u32::from('0')),
            'a'..='z' => (b'a', 26, u32::from(c) - u32::from('a')),
            'A'..='Z' => (b'A', 26, u32::from(c) - u32::from('A')),
            // Not a permutation any more; such letters are rare in what is joined by.
            c if c.is_alphanumeric() => (b'a', 26, u32::from(c) % 26),
            c => {
                form.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        form.extend_from_slice(&[0, class]);
        radices.push(radix);
        symbols.push(u16::try_from(symbol).unwrap_or(0));
    }
    if symbols.len() < 2 {
        return false;
    }
    permute(key, &form, &radices, &mut symbols);
    let mut symbols = symbols.into_iter();
    let mut rest = form.iter();
    while let Some(byte) = rest.next() {
        if *byte != 0 {
            out.push(*byte);
            continue;
        }
        let first = rest.next().copied().unwrap_or(b'0');
        let symbol = symbols.next().and_then(|symbol| u8::try_from(symbol).ok());
        out.push(first + symbol.unwrap_or(0));
    }
    true
}

/// Permutes decimal digits until `fits`; a walk along the cycle keeps it a permutation of what fits.
pub(super) fn permute_digits(
    key: &MaskKey,
    form: &[u8],
    digits: &mut [u16],
    fits: impl Fn(&[u16]) -> bool,
) -> bool {
    /// The least share of what fits is one in ten; nobody waits for more.
    const STEPS_MAX: usize = 2000;
    let radices = vec![10; digits.len()];
    for _ in 0..STEPS_MAX {
        permute(key, form, &radices, digits);
        if fits(digits) {
            return true;
        }
    }
    false
}
