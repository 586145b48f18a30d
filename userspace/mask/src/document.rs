//! JSON documents: parsed, masked, written anew, so that what the agent gets is what was seen.

mod members;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};
use weir_decide::MaskKind;

use crate::key::MaskKey;
use crate::rows::{Masked, REDACTED, mask_text};

/// What a protocol knows of its documents.
pub trait DocumentRules {
    /// What is known of a place, carried from an object to what is inside it.
    type Place: Copy;

    /// What this object is, seen from where it stands.
    fn object(&self, place: Self::Place, object: &Map<String, Value>) -> Self::Place;

    /// What to do with a member of an object at `place`.
    fn member(&self, place: Self::Place, name: &str) -> Member<Self::Place>;
}

/// What to do with a member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member<P> {
    /// Look inside.
    Walk(P),
    /// Mask every value inside, whatever its type; names stay.
    Mask(MaskKind, Encoding),
    /// A text that holds a document of its own; one that cannot be read is redacted.
    Embedded(P),
}

/// How a masked text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    /// Standard alphabet with padding (RFC 4648, 4); the value is decoded before it is masked.
    Base64,
}

/// The bytes are no JSON document, or one nested too deeply (128 levels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON document that can be masked")]
pub struct Unreadable;

/// Masks one document; `place` is what is known of it from outside. Of members with one name the
/// last counts, as in most readers, and only it is written.
///
/// # Errors
/// [`Unreadable`]; nothing of it may be given on.
pub fn document<R: DocumentRules>(
    bytes: &[u8],
    rules: &R,
    place: R::Place,
    key: &MaskKey,
) -> Result<Masked, Unreadable> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|_| Unreadable)?;
    let mut walk = Walk {
        rules,
        key,
        masked: 0,
    };
    walk.value(&mut value, place);
    let bytes = serde_json::to_vec(&value).map_err(|_| Unreadable)?;
    Ok(Masked::new(Bytes::from(bytes), walk.masked))
}

/// True when a text of this document is what a mask leaves behind: whoever writes it back would
/// destroy the real value.
#[must_use]
pub fn holds_masked_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.as_bytes() == REDACTED || *text == STANDARD.encode(REDACTED),
        Value::Array(items) => items.iter().any(holds_masked_text),
        Value::Object(members) => members.values().any(holds_masked_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

struct Walk<'a, R> {
    rules: &'a R,
    key: &'a MaskKey,
    masked: u64,
}

impl<R: DocumentRules> Walk<'_, R> {
    fn value(&mut self, value: &mut Value, place: R::Place) {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.value(item, place);
                }
            }
            Value::Object(members) => {
                let place = self.rules.object(place, members);
                for (name, value) in members.iter_mut() {
                    match self.rules.member(place, name) {
                        Member::Walk(place) => self.value(value, place),
                        Member::Mask(kind, encoding) => self.mask(value, kind, encoding),
                        Member::Embedded(place) => self.embedded(value, place),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn embedded(&mut self, value: &mut Value, place: R::Place) {
        let Value::String(text) = value else {
            self.value(value, place);
            return;
        };
        let Ok(inner) = serde_json::from_str::<Value>(text) else {
            self.mask(value, MaskKind::Redact, Encoding::Plain);
            return;
        };
        let mut walked = inner.clone();
        self.value(&mut walked, place);
        // `kubectl apply` compares this text byte by byte with what it would write, so that another
        // spelling of the same document is a change of the object.
        if walked == inner && members::all_kept(text, &inner) {
            return;
        }
        match serde_json::to_string(&walked) {
            Ok(written) => *text = written,
            Err(_) => self.mask(value, MaskKind::Redact, Encoding::Plain),
        }
    }

    fn mask(&mut self, value: &mut Value, kind: MaskKind, encoding: Encoding) {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.mask(item, kind, encoding);
                }
            }
            Value::Object(members) => {
                for value in members.values_mut() {
                    self.mask(value, kind, encoding);
                }
            }
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => {
                self.masked += 1;
                *value = Value::Null;
            }
            Value::String(text) => {
                self.masked += 1;
                *text = self.text(text, kind, encoding);
            }
        }
    }

    fn text(&self, text: &str, kind: MaskKind, encoding: Encoding) -> String {
        let decoded = match encoding {
            Encoding::Plain => None,
            Encoding::Base64 => Some(STANDARD.decode(text).unwrap_or_default()),
        };
        let plain = decoded.as_deref().unwrap_or(text.as_bytes());
        let mut out = Vec::new();
        // What is no text, or has no masked form, is redacted: a document keeps its shape.
        if !mask_text(kind, "document", plain, self.key, &mut out) {
            out.clear();
            out.extend_from_slice(REDACTED);
        }
        match encoding {
            Encoding::Plain => String::from_utf8_lossy(&out).into_owned(),
            Encoding::Base64 => STANDARD.encode(&out),
        }
    }
}

#[cfg(test)]
mod tests;
