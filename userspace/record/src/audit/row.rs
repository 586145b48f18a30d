//! Cutting RowBinary rows of `fact` apart. Input is untrusted.
//!
//! Source: ClickHouse documentation, "RowBinary".

use weir_spool::schema::COLUMNS;

/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a column's bytes look like.
enum Shape {
    Fixed(usize),
    Text,
    Texts,
    Pairs,
}

fn shape(ty: &str) -> Shape {
    match ty {
        "UInt128" => Shape::Fixed(16),
        "UInt64" => Shape::Fixed(8),
        "UInt32" => Shape::Fixed(4),
        "Bool" => Shape::Fixed(1),
        ty if ty.starts_with("Enum8(") => Shape::Fixed(1),
        ty if ty.starts_with("DateTime64(") => Shape::Fixed(8),
        ty if ty.starts_with("Array(") => Shape::Texts,
        ty if ty.starts_with("Map(") => Shape::Pairs,
        _ => Shape::Text,
    }
}

/// Where each column of the row at the front of `bytes` ends; `None` when there is more to come.
///
/// # Errors
/// A length that no row of ours has.
pub(super) fn ends(bytes: &[u8]) -> Result<Option<Vec<usize>>, String> {
    let mut ends = Vec::with_capacity(COLUMNS.len());
    let mut at = 0;
    for column in COLUMNS {
        let next = match shape(column.ty) {
            Shape::Fixed(length) => Some(at + length),
            Shape::Text => text(bytes, at)?,
            Shape::Texts => texts(bytes, at, 1)?,
            Shape::Pairs => texts(bytes, at, 2)?,
        };
        match next {
            Some(next) if next <= bytes.len() => at = next,
            _ => return Ok(None),
        }
        ends.push(at);
    }
    Ok(Some(ends))
}

fn texts(bytes: &[u8], at: usize, each: usize) -> Result<Option<usize>, String> {
    let Some((count, mut at)) = leb128(bytes, at)? else {
        return Ok(None);
    };
    for _ in 0..count.saturating_mul(each) {
        match text(bytes, at)? {
            Some(next) if next <= bytes.len() => at = next,
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn text(bytes: &[u8], at: usize) -> Result<Option<usize>, String> {
    Ok(leb128(bytes, at)?.map(|(length, at)| at + length))
}

fn leb128(bytes: &[u8], mut at: usize) -> Result<Option<(usize, usize)>, String> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let Some(byte) = bytes.get(at) else {
            return Ok(None);
        };
        value |= usize::from(byte & 0x7f) << shift;
        at += 1;
        if byte & 0x80 == 0 {
            return if value > VALUE_BYTES_MAX {
                Err(format!("a value of {value} bytes"))
            } else {
                Ok(Some((value, at)))
            };
        }
    }
    Err("a length that does not end".to_owned())
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Row {
    pub(super) fn new(bytes: &[u8]) -> Result<Self, String> {
        match ends(bytes)? {
            Some(ends) if ends.last() == Some(&bytes.len()) => Ok(Self {
                bytes: bytes.to_vec(),
                ends,
            }),
            _ => Err("a row that is cut off".to_owned()),
        }
    }

    fn column(&self, index: usize) -> &[u8] {
        let start = index
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or(&[])
    }

    fn named(&self, name: &str) -> &[u8] {
        let index = COLUMNS.iter().position(|column| column.name == name);
        index.map_or(&[], |index| self.column(index))
    }

    fn number(&self, name: &str) -> u128 {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(self.named(name)) {
            *to = *from;
        }
        u128::from_le_bytes(bytes)
    }

    pub(super) fn position(&self) -> u32 {
        u32::try_from(self.number("position")).unwrap_or(u32::MAX)
    }

    /// Session and number, for people.
    pub(super) fn place(&self) -> String {
        let session = weir_model::ident::SessionId(self.number("session_id"));
        format!("session {session} seq {}", self.number("seq"))
    }

    /// The digest in the row is that of its other columns.
    pub(super) fn digest_fits(&self) -> bool {
        let stored = self.named("row_digest");
        let others = self.bytes.len().saturating_sub(stored.len());
        let digest = blake3::hash(self.bytes.get(..others).unwrap_or(&[]));
        digest.as_bytes().get(..8) == Some(stored)
    }

    /// Names of the columns in which two rows differ.
    pub(super) fn differs(&self, other: &Self) -> Vec<&'static str> {
        COLUMNS
            .iter()
            .enumerate()
            .filter(|(index, _)| self.column(*index) != other.column(*index))
            .map(|(_, column)| column.name)
            .collect()
    }
}
