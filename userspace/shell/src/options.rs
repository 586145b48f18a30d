//! Command-line options of wrappers: understood completely, or not at all.

use crate::script::Word;

/// The options that come before what a wrapper runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Letters without a value.
    pub(crate) flags: &'static str,
    /// Letters whose value is the rest of the word or the next word.
    pub(crate) valued: &'static str,
    /// Letters whose value can only be the rest of the word.
    pub(crate) optional: &'static str,
    /// Long names, separated by spaces; a value after `=` is allowed.
    pub(crate) long: &'static str,
    /// Long names with a value, after `=` or as the next word.
    pub(crate) long_valued: &'static str,
    /// A dash with digits is an option (`nice -5`).
    pub(crate) number: bool,
}

/// What was found.
pub(crate) struct Found {
    /// Letters and long names, with their values.
    pub(crate) seen: Vec<(String, Option<Word>)>,
    /// Index of the first word that is no option.
    pub(crate) rest: usize,
}

impl Found {
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.seen
            .iter()
            .any(|(name, _)| names.contains(&name.as_str()))
    }

    pub(crate) fn value(&self, names: &[&str]) -> Option<&Word> {
        let found = self
            .seen
            .iter()
            .rev()
            .find(|(name, _)| names.contains(&name.as_str()));
        found.and_then(|(_, value)| value.as_ref())
    }
}

fn listed(names: &str, name: &str) -> bool {
    names.split(' ').any(|one| one == name)
}

/// A word whose text is unknown but whose start shows that it is no option.
fn is_plain(word: &Word) -> bool {
    let first = word.raw.chars().next();
    first.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_'))
}

impl Options {
    /// Reads the options at the start of `arguments`; `None` when one is not understood.
    pub(crate) fn read(&self, arguments: &[Word]) -> Option<Found> {
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some(word) = arguments.get(at) {
            let Some(text) = word.text.as_deref() else {
                return is_plain(word).then_some(Found { seen, rest: at });
            };
            if text == "--" {
                return Some(Found { seen, rest: at + 1 });
            }
            let Some(option) = text.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                break;
            };
            at += 1;
            let takes_next = match option.strip_prefix('-') {
                Some(long) => self.long(long, &mut seen)?,
                None => self.short(option, &mut seen)?,
            };
            if takes_next {
                let value = arguments.get(at)?.clone();
                seen.last_mut()?.1 = Some(value);
                at += 1;
            }
        }
        Some(Found { seen, rest: at })
    }

    fn long(&self, option: &str, seen: &mut Vec<(String, Option<Word>)>) -> Option<bool> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(Word::literal(value))),
            None => (option, None),
        };
        let valued = listed(self.long_valued, name);
        if !valued && !listed(self.long, name) {
            return None;
        }
        let takes_next = valued && value.is_none();
        seen.push((name.to_owned(), value));
        Some(takes_next)
    }

    fn short(&self, option: &str, seen: &mut Vec<(String, Option<Word>)>) -> Option<bool> {
        if self.number && option.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(false);
        }
        for (at, letter) in option.char_indices() {
            let rest = option.get(at + letter.len_utf8()..)?;
            if self.flags.contains(letter) {
                seen.push((letter.to_string(), None));
            } else if self.valued.contains(letter) || self.optional.contains(letter) {
                let value = (!rest.is_empty()).then(|| Word::literal(rest));
                let takes_next = value.is_none() && self.valued.contains(letter);
                seen.push((letter.to_string(), value));
                return Some(takes_next);
            } else {
                return None;
            }
        }
        Some(false)
    }
}
