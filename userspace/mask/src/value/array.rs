//! Arrays: each element is changed by itself; one that may not go out becomes NULL, and the shape stays.

use crate::plan::Format;

/// Dimensions that PostgreSQL allows (`MAXDIM`).
const DIMENSIONS_MAX: usize = 6;

/// Writes what an element becomes; false where it becomes NULL, and what was written is of no use then.
pub(super) type Element<'a> = &'a mut dyn FnMut(&[u8], &mut Vec<u8>) -> bool;

/// An array with each element changed; false when it is not understood.
pub(super) fn each(format: Format, value: &[u8], out: &mut Vec<u8>, element: Element<'_>) -> bool {
    match format {
        Format::Text => text(value, out, element),
        Format::Binary => binary(value, out, element).is_some(),
    }
}

/// `array_send`: dimensions, flags, element type, then length and lower bound of each dimension, then
/// the elements, each behind its length.
fn binary(value: &[u8], out: &mut Vec<u8>, change: Element<'_>) -> Option<()> {
    let word = |at: usize| {
        let bytes = value.get(at..at.checked_add(4)?)?;
        Some(i32::from_be_bytes(bytes.try_into().ok()?))
    };
    let dimensions = usize::try_from(word(0)?)
        .ok()
        .filter(|count| *count <= DIMENSIONS_MAX)?;
    let head = 12 + 8 * dimensions;
    let start = out.len();
    out.extend_from_slice(value.get(..head)?);
    // An element may become NULL: the flag says whether there are any.
    out.get_mut(start + 4..start + 8)?
        .copy_from_slice(&1_i32.to_be_bytes());
    let mut at = head;
    while at < value.len() {
        let length = word(at)?;
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            continue;
        };
        let element = value.get(at..at.checked_add(length)?)?;
        at += length;
        let place = out.len();
        out.extend_from_slice(&[0; 4]);
        let written = change(element, out);
        let count = if written {
            i32::try_from(out.len() - place - 4).ok()?
        } else {
            out.truncate(place + 4);
            -1
        };
        out.get_mut(place..place + 4)?
            .copy_from_slice(&count.to_be_bytes());
    }
    Some(())
}

/// `array_out`: braces, commas, quotes with backslashes, NULL; bounds in front when they are not 1.
fn text(value: &[u8], out: &mut Vec<u8>, change: Element<'_>) -> bool {
    let body = match value.iter().position(|byte| *byte == b'=') {
        Some(at) if value.first() == Some(&b'[') => {
            out.extend_from_slice(value.get(..=at).unwrap_or_default());
            value.get(at + 1..).unwrap_or_default()
        }
        Some(_) | None => value,
    };
    if body.first() != Some(&b'{') || body.last() != Some(&b'}') {
        return false;
    }
    let mut rest = body.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'{' | b'}' | b',' => out.push(byte),
            b'"' => {
                let mut element = Vec::new();
                loop {
                    match rest.next() {
                        Some(b'"') => break,
                        Some(b'\\') => element.extend(rest.next()),
                        Some(byte) => element.push(byte),
                        None => return false,
                    }
                }
                put_element(&element, out, change);
            }
            first => {
                let mut element = vec![first];
                while let Some(byte) = rest.next_if(|byte| !matches!(byte, b',' | b'}')) {
                    element.push(byte);
                }
                if element == b"NULL" {
                    out.extend_from_slice(b"NULL");
                } else {
                    put_element(&element, out, change);
                }
            }
        }
    }
    true
}

fn put_element(element: &[u8], out: &mut Vec<u8>, change: Element<'_>) {
    let mut masked = Vec::new();
    if !change(element, &mut masked) {
        out.extend_from_slice(b"NULL");
        return;
    }
    out.push(b'"');
    for byte in masked {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
