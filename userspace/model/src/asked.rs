//! What policy was asked, in the record: which effect on which object, and the context. With it a recorded
//! request can be decided again, under other policies.
//!
//! ```text
//! asked   = pair (' ' pair)* ('|' name '=' value)*
//! pair    = effect '.' object          indices into the fact's effects and objects, from 0
//! value   = 'b' ('0'|'1') | 'i' number | 's' text | 't' text (',' text)* | 't' | '?'
//! ```
//! `?` is an attribute whose text may hold a secret and was not recorded. In texts `%`, `|`, `,` and control
//! characters are written `%` and two hexadecimal digits for each byte.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::request::{Access, AttrValue, Intent, Object};
use crate::vocabulary::Vocabulary;

/// Texts of agents that may hold secrets, by name of the attribute, in whatever protocol.
const WITHHELD: &[&str] = &["arguments", "command", "program", "programs"];

/// What was recorded, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Whole(Intent),
    /// An attribute is missing, so that another policy may have said something else.
    Partly,
}

/// `effects` and `objects` are the sorted lists that are recorded beside it.
pub(crate) fn write(intent: &Intent, effects: &[String], objects: &[String]) -> String {
    let mut out = String::with_capacity(64);
    for access in &intent.accesses {
        let object = named(&access.object);
        let effect = effects.binary_search_by(|one| one.as_str().cmp(access.action));
        // Both lists were made of these accesses.
        let (Ok(effect), Ok(object)) = (effect, objects.binary_search(&object)) else {
            continue;
        };
        let between = if out.is_empty() { "" } else { " " };
        let _infallible = write!(out, "{between}{effect}.{object}");
    }
    for (name, value) in &intent.context {
        let _infallible = write!(out, "|{name}=");
        match value {
            AttrValue::Bool(yes) => out.push_str(if *yes { "b1" } else { "b0" }),
            AttrValue::Long(number) => {
                let _infallible = write!(out, "i{number}");
            }
            AttrValue::String(_) | AttrValue::StringSet(_) if WITHHELD.contains(name) => {
                out.push('?');
            }
            AttrValue::String(text) => {
                out.push('s');
                escape(&mut out, text);
            }
            AttrValue::StringSet(texts) => {
                out.push('t');
                for (index, text) in texts.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    escape(&mut out, text);
                }
            }
        }
    }
    out
}

/// `Kind:id`, as the record names objects.
#[must_use]
pub fn named(object: &Object) -> String {
    format!("{}:{}", object.kind, object.id())
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        if matches!(c, '%' | '|' | ',') || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _infallible = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<Arc<str>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok().map(Arc::from)
}

/// Reads back what was recorded; `None` when it is not of this vocabulary.
#[must_use]
pub fn read(
    text: &str,
    (effects, objects): (&[String], &[String]),
    vocabulary: &'static Vocabulary,
) -> Option<Asked> {
    let mut parts = text.split('|');
    let mut accesses = Vec::new();
    for pair in parts.next()?.split(' ').filter(|pair| !pair.is_empty()) {
        let (effect, object) = pair.split_once('.')?;
        let effect = effects.get(effect.parse::<usize>().ok()?)?;
        let action = vocabulary.actions.iter().find(|one| one.name == *effect)?;
        accesses.push(Access {
            action: action.name,
            object: object_of(objects.get(object.parse::<usize>().ok()?)?, vocabulary)?,
        });
    }
    let mut context = Vec::new();
    let mut whole = true;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        let attribute = vocabulary.context.iter().find(|one| one.name == name)?;
        match value_of(value)? {
            Some(value) => context.push((attribute.name, value)),
            None => whole = false,
        }
    }
    Some(if whole {
        Asked::Whole(Intent::new(accesses, context))
    } else {
        Asked::Partly
    })
}

/// `None` inside where the value was withheld.
fn value_of(text: &str) -> Option<Option<AttrValue>> {
    let mut chars = text.chars();
    let kind = chars.next()?;
    let rest = chars.as_str();
    Some(match kind {
        '?' => None,
        'b' => Some(AttrValue::Bool(rest == "1")),
        'i' => Some(AttrValue::Long(rest.parse().ok()?)),
        's' => Some(AttrValue::String(unescape(rest)?)),
        't' if rest.is_empty() => Some(AttrValue::StringSet(Box::default())),
        't' => {
            let texts: Option<Vec<_>> = rest.split(',').map(unescape).collect();
            Some(AttrValue::StringSet(texts?.into()))
        }
        _ => return None,
    })
}

/// An object from `Kind:id`.
fn object_of(text: &str, vocabulary: &'static Vocabulary) -> Option<Object> {
    let (kind, id) = text.split_once(':')?;
    // An object of a target itself has the kind that all protocols share.
    let kind = match kind {
        "Target" => "Target",
        kind => vocabulary.objects.iter().find(|one| one.name == kind)?.name,
    };
    let path: Option<Vec<Arc<str>>> = id.split('/').map(unescape).collect();
    Some(Object {
        kind,
        path: path?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Recorded;
    use crate::vocabulary::{AttrType, action, object, optional};

    const VOCABULARY: Vocabulary = Vocabulary {
        namespace: "Test",
        objects: &[
            object("Table", None, ""),
            object("Column", Some("Table"), ""),
        ],
        actions: &[
            action("read", &["Column"], ""),
            action("select", &["Table"], ""),
        ],
        context: &[
            optional("limit", AttrType::Long, ""),
            optional("safe", AttrType::Bool, ""),
            optional("verb", AttrType::String, ""),
            optional("tags", AttrType::StringSet, ""),
            optional("command", AttrType::String, ""),
        ],
        maskable: &[],
        showable: &[],
        predicate: None,
    };

    fn intent(context: Vec<(&'static str, AttrValue)>) -> Intent {
        let object = |kind, path: &[&str]| Object {
            kind,
            path: path.iter().map(|part| Arc::from(*part)).collect(),
        };
        let accesses = vec![
            Access {
                action: "read",
                object: object("Column", &["db", "a/b", "c%"]),
            },
            Access {
                action: "select",
                object: object("Table", &["db", "a/b"]),
            },
            Access {
                action: "read",
                object: object("Column", &["db", "a/b", "ü"]),
            },
        ];
        Intent::new(accesses, context)
    }

    fn again(intent: &Intent) -> Option<Asked> {
        let recorded = Recorded::of(intent);
        let lists = (&*recorded.effects, &*recorded.objects);
        read(&recorded.asked, lists, &VOCABULARY)
    }

    #[test]
    fn what_was_asked_is_read_back() {
        let text = |text: &str| Arc::<str>::from(text);
        let odd = intent(vec![
            ("limit", AttrValue::Long(-5)),
            ("safe", AttrValue::Bool(true)),
            ("verb", AttrValue::String(text("a|b=c,%\n ü"))),
            (
                "tags",
                AttrValue::StringSet([text(""), text("x,y"), text("z")].into()),
            ),
        ]);
        assert_eq!(again(&odd), Some(Asked::Whole(odd)));
        let plain = intent(vec![("tags", AttrValue::StringSet(Box::default()))]);
        assert_eq!(again(&plain), Some(Asked::Whole(plain)));
    }

    #[test]
    fn texts_that_may_hold_secrets_are_not_in_it() {
        let secret = AttrValue::String(Arc::from("curl -u me:hunter2"));
        let command = intent(vec![("command", secret), ("safe", AttrValue::Bool(false))]);
        assert!(!Recorded::of(&command).asked.contains("hunter2"));
        assert_eq!(again(&command), Some(Asked::Partly));
    }

    #[test]
    fn what_is_not_of_the_vocabulary_is_refused() {
        let recorded = Recorded::of(&intent(Vec::new()));
        let lists = (&*recorded.effects, &*recorded.objects);
        for text in [
            "9.0",
            "0.9",
            "0",
            "0.0|other=b1",
            "0.0|safe",
            "0.0|limit=ix",
        ] {
            assert_eq!(read(text, lists, &VOCABULARY), None, "{text}");
        }
        let foreign = ["Row:db/x".to_owned()];
        assert_eq!(
            read("0.0", (&recorded.effects, &foreign), &VOCABULARY),
            None
        );
    }
}
