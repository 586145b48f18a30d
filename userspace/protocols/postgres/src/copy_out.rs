//! COPY … TO STDOUT: rows of the three formats through a mask plan.
//!
//! The server sends one row for each CopyData ("Frontend/Backend Protocol", "COPY Operations"); in
//! binary the header stands before the first row, and the trailer is a row of its own. What does not
//! fit that is not passed on.

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use weir_mask::{Masked, RowMasker};

use crate::understand::CopyFormat;
use crate::wire::{Reader, WireError};

/// Signature, flags and length of the extension ("COPY", "Binary Format").
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The only flag that is known: OIDs before each row, which no supported server writes.
const FLAGS_KNOWN: u32 = 0;

/// Where a copy stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CopyOut {
    format: CopyFormat,
    /// The line of column names, or the binary header, went by.
    begun: bool,
}

impl CopyOut {
    pub(crate) const fn new(format: CopyFormat) -> Self {
        Self {
            format,
            begun: false,
        }
    }

    /// Whether the server's answer says the same format.
    pub(crate) const fn is_binary(&self) -> bool {
        matches!(self.format, CopyFormat::Binary)
    }

    /// One CopyData message of `columns` columns, masked by `rows`; `body` is what stands behind its
    /// length.
    ///
    /// # Errors
    /// [`WireError`] when it is not one row of as many columns as the plan has.
    pub(crate) fn row(
        &mut self,
        body: &[u8],
        mut rows: RowMasker<'_>,
        columns: usize,
    ) -> Result<Masked, WireError> {
        rows.frame(&[b'd', 0, 0, 0, 0]);
        let names = !self.begun
            && matches!(
                &self.format,
                CopyFormat::Text { header: true, .. } | CopyFormat::Csv { header: true, .. }
            );
        let first = !std::mem::replace(&mut self.begun, true);
        match &self.format {
            // Names of columns, which the description of a SELECT shows as well.
            CopyFormat::Text { .. } | CopyFormat::Csv { .. } if names => rows.frame(body),
            CopyFormat::Text {
                delimiter, null, ..
            } => text_row(body, *delimiter, null, columns, &mut rows)?,
            CopyFormat::Csv {
                delimiter,
                quote,
                escape,
                null,
                ..
            } => {
                let csv = Csv {
                    delimiter: *delimiter,
                    quote: *quote,
                    escape: *escape,
                    null: null.as_bytes(),
                };
                csv.row(body, columns, &mut rows)?;
            }
            CopyFormat::Binary => binary_row(body, first, columns, &mut rows)?,
            CopyFormat::Other => return Err(WireError::Trailing),
        }
        let length = rows.len().saturating_sub(1);
        rows.patch_u32(1, u32::try_from(length).map_err(|_| WireError::TooLarge)?);
        Ok(rows.finish())
    }
}

/// A row ends with a newline; inside it they are escaped.
fn line(body: &[u8]) -> Result<&[u8], WireError> {
    body.strip_suffix(b"\n").ok_or(WireError::Short)
}

fn text_row(
    body: &[u8],
    delimiter: u8,
    null: &str,
    columns: usize,
    rows: &mut RowMasker<'_>,
) -> Result<(), WireError> {
    let mut count = 0;
    // A table without columns has empty rows.
    let fields = fields(line(body)?, delimiter);
    for field in fields.take(if columns == 0 { 0 } else { usize::MAX }) {
        if count > 0 {
            rows.frame(&[delimiter]);
        }
        let value = (field != null.as_bytes()).then(|| unescaped(field));
        rows.cell(count, value.as_deref(), |out, value| match value {
            Some(value) => escape(value, delimiter, out),
            None => out.put_slice(null.as_bytes()),
        });
        count += 1;
    }
    rows.frame(b"\n");
    whole(count, columns)
}

/// A delimiter within a value stands behind a backslash.
fn fields(line: &[u8], delimiter: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut end = 0;
        while let Some(byte) = line.get(end).filter(|byte| **byte != delimiter) {
            end += if *byte == b'\\' { 2 } else { 1 };
        }
        let (field, tail) = line.split_at_checked(end).unwrap_or((line, &[]));
        rest = tail.get(1..);
        Some(field)
    })
}

fn whole(count: usize, columns: usize) -> Result<(), WireError> {
    match count.cmp(&columns) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(WireError::Short),
        std::cmp::Ordering::Greater => Err(WireError::Trailing),
    }
}

/// As `CopyAttributeOutText` escapes.
fn escape(value: &[u8], delimiter: u8, out: &mut BytesMut) {
    for byte in value {
        let letter = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            byte if *byte == delimiter => delimiter,
            byte => {
                out.put_u8(*byte);
                continue;
            }
        };
        // A delimiter that is one of these is escaped as itself.
        let letter = if *byte == delimiter {
            delimiter
        } else {
            letter
        };
        out.put_slice(&[b'\\', letter]);
    }
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        value.extend(bytes.next().map(|letter| match letter {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        }));
    }
    value
}

struct Csv<'a> {
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: &'a [u8],
}

impl Csv<'_> {
    fn row(&self, body: &[u8], columns: usize, rows: &mut RowMasker<'_>) -> Result<(), WireError> {
        let mut rest = line(body)?;
        let mut count = 0;
        // A table without columns has empty rows.
        if columns == 0 {
            rows.frame(b"\n");
            return Ok(());
        }
        loop {
            let (raw, value, more) = self.field(rest)?;
            let passes = rows.passes(count);
            let value = if passes {
                value.map(|_| raw.to_vec())
            } else {
                value
            };
            rows.cell(count, value.as_deref(), |out, value| match value {
                // As the server wrote it, quotes included.
                Some(value) if passes => out.put_slice(value),
                Some(value) => self.put(value, columns == 1, out),
                None => out.put_slice(self.null),
            });
            count += 1;
            match more {
                Some(next) => {
                    rows.frame(&[self.delimiter]);
                    rest = next;
                }
                None => break,
            }
        }
        rows.frame(b"\n");
        whole(count, columns)
    }

    /// The field at the front: as written, its value (`None` is NULL), and what comes behind the
    /// delimiter.
    #[expect(clippy::type_complexity, reason = "three views of one field")]
    fn field<'b>(
        &self,
        input: &'b [u8],
    ) -> Result<(&'b [u8], Option<Vec<u8>>, Option<&'b [u8]>), WireError> {
        if input.first() != Some(&self.quote) {
            let end = input.iter().position(|byte| *byte == self.delimiter);
            let raw = input.get(..end.unwrap_or(input.len())).unwrap_or_default();
            let value = (raw != self.null).then(|| raw.to_vec());
            return Ok((raw, value, end.and_then(|end| input.get(end + 1..))));
        }
        let mut value = Vec::new();
        let mut at = 1;
        loop {
            let byte = *input.get(at).ok_or(WireError::Short)?;
            let next = input.get(at + 1).copied();
            at += 1;
            if byte == self.escape
                && next.is_some_and(|next| next == self.quote || next == self.escape)
            {
                value.extend(next);
                at += 1;
            } else if byte == self.quote {
                break;
            } else {
                value.push(byte);
            }
        }
        let raw = input.get(..at).unwrap_or_default();
        match input.get(at) {
            None => Ok((raw, Some(value), None)),
            Some(byte) if *byte == self.delimiter => Ok((raw, Some(value), input.get(at + 1..))),
            Some(_) => Err(WireError::Trailing),
        }
    }

    /// As `CopyAttributeOutCSV` quotes: `\.` alone on a line would end the data.
    fn put(&self, value: &[u8], single: bool, out: &mut BytesMut) {
        let special = |byte: &u8| [self.delimiter, self.quote, b'\n', b'\r'].contains(byte);
        if value != self.null && !value.iter().any(special) && !(single && value == b"\\.") {
            return out.put_slice(value);
        }
        out.put_u8(self.quote);
        for byte in value {
            if *byte == self.quote || *byte == self.escape {
                out.put_u8(self.escape);
            }
            out.put_u8(*byte);
        }
        out.put_u8(self.quote);
    }
}

fn binary_row(
    body: &[u8],
    first: bool,
    columns: usize,
    rows: &mut RowMasker<'_>,
) -> Result<(), WireError> {
    let mut reader = Reader::new(body);
    if first {
        let signature = reader.bytes(SIGNATURE.len())?;
        if signature != SIGNATURE || reader.u32()? != FLAGS_KNOWN || reader.u32()? != 0 {
            return Err(WireError::Length);
        }
        rows.frame(SIGNATURE);
        rows.frame(&[0; 8]);
        if reader.is_empty() {
            return Ok(());
        }
    }
    let count = reader.i16()?;
    rows.frame(&count.to_be_bytes());
    if count == -1 {
        return reader.finish();
    }
    whole(
        usize::try_from(count).map_err(|_| WireError::Length)?,
        columns,
    )?;
    for index in 0..columns {
        rows.cell(index, reader.value()?, |out, value| match value {
            Some(value) => {
                out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        });
    }
    reader.finish()
}

#[cfg(test)]
mod tests;
