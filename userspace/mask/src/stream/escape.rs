//! CSI escape sequences (ECMA-48, 5.4): `ESC [`, parameters, intermediates, one final byte.

pub(super) const ESC: u8 = 0x1b;
/// Longer ones are text: no terminal needs them, and what is kept back stays small.
const BYTES_MAX: usize = 64;

/// What a sequence is so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    Unfinished,
    Complete,
    /// No CSI sequence: its bytes are text.
    Text,
}

/// Looks at a sequence that begins with [`ESC`] and was unfinished before its last byte.
pub(super) fn look(sequence: &[u8]) -> Escape {
    let Some((last, before)) = sequence.split_last() else {
        return Escape::Unfinished;
    };
    let after_intermediate = before
        .last()
        .is_some_and(|byte| (0x20..0x30).contains(byte));
    match (before.len(), last) {
        (0, _) | (1, b'[') => Escape::Unfinished,
        (1, _) => Escape::Text,
        (_, 0x40..=0x7e) => Escape::Complete,
        (count, _) if count >= BYTES_MAX => Escape::Text,
        (_, 0x20..0x30) => Escape::Unfinished,
        (_, 0x30..0x40) if !after_intermediate => Escape::Unfinished,
        _ => Escape::Text,
    }
}

/// The length of a whole sequence without its [`ESC`], when it stands at the start of `after`.
pub(super) fn length(after: &[u8]) -> Option<usize> {
    let (bracket, rest) = after.split_first()?;
    let parameters = rest.iter().take_while(|byte| (0x30..0x40).contains(*byte));
    let count = parameters.count();
    let last = rest.get(count)?;
    let whole = *bracket == b'[' && (0x40..=0x7e).contains(last) && count + 3 <= BYTES_MAX;
    whole.then_some(count + 2)
}
