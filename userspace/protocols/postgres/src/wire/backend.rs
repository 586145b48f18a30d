//! Messages from the server, and those that we send in its place.

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Frame, Reader, WireError, cstr, message};

/// Columns of one result at most (the server's own limit is 1,664).
const COLUMNS_MAX: usize = 4096;

/// One column of a `RowDescription`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub table_oid: u32,
    pub attnum: i16,
    pub type_oid: u32,
    pub format: i16,
}

/// Authentication requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth<'a> {
    Ok,
    ClearText,
    Md5 { salt: [u8; 4] },
    Sasl { mechanisms: Vec<&'a str> },
    SaslContinue(&'a [u8]),
    SaslFinal(&'a [u8]),
    Other(u32),
}

/// # Errors
/// [`WireError`].
pub fn auth(frame: &Frame) -> Result<Auth<'_>, WireError> {
    let mut reader = Reader::new(frame.body());
    Ok(match reader.u32()? {
        0 => Auth::Ok,
        3 => Auth::ClearText,
        5 => {
            let salt = reader.bytes(4)?;
            Auth::Md5 {
                salt: salt.try_into().map_err(|_| WireError::Short)?,
            }
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.cstr()? {
                    "" => break,
                    name => mechanisms.push(name),
                }
            }
            Auth::Sasl { mechanisms }
        }
        11 => Auth::SaslContinue(reader.remaining()),
        12 => Auth::SaslFinal(reader.remaining()),
        other => Auth::Other(other),
    })
}

/// ParameterDescription: types of a statement's parameters.
///
/// # Errors
/// [`WireError`].
pub fn parameter_types(frame: &Frame) -> Result<Vec<u32>, WireError> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count()?;
    let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.finish()?;
    Ok(types)
}

/// # Errors
/// [`WireError`].
pub fn row_description(frame: &Frame) -> Result<Vec<Field>, WireError> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count()?;
    if count > COLUMNS_MAX {
        return Err(WireError::Length);
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let name = reader.cstr()?.to_owned();
        let table_oid = reader.u32()?;
        let attnum = reader.i16()?;
        let type_oid = reader.u32()?;
        let _size = reader.i16()?;
        let _modifier = reader.i32()?;
        let format = reader.i16()?;
        fields.push(Field {
            name,
            table_oid,
            attnum,
            type_oid,
            format,
        });
    }
    reader.finish()?;
    Ok(fields)
}

/// `name` and `value` of a `ParameterStatus`.
///
/// # Errors
/// [`WireError`].
pub fn parameter_status(frame: &Frame) -> Result<(&str, &str), WireError> {
    let mut reader = Reader::new(frame.body());
    let pair = (reader.cstr()?, reader.cstr()?);
    reader.finish()?;
    Ok(pair)
}

/// Fields of an error or notice, by their code.
///
/// # Errors
/// [`WireError`].
pub fn error_fields(frame: &Frame) -> Result<Vec<(u8, String)>, WireError> {
    let mut reader = Reader::new(frame.body());
    let mut fields = Vec::new();
    loop {
        match reader.u8()? {
            0 => break,
            code => {
                let end = reader.cstr_lossy()?;
                fields.push((code, end));
            }
        }
    }
    reader.finish()?;
    Ok(fields)
}

/// The tag of a `CommandComplete`; empty when it cannot be read.
#[must_use]
pub fn command_tag(frame: &Frame) -> String {
    let tag = Reader::new(frame.body()).cstr_lossy();
    tag.unwrap_or_default()
}

/// SQLSTATE of an error; that of an internal one when it has none.
#[must_use]
pub fn sqlstate(frame: &Frame) -> String {
    let fields = error_fields(frame).unwrap_or_default();
    let code = fields.into_iter().find(|(field, _)| *field == b'C');
    code.map_or_else(|| "XX000".to_owned(), |(_, code)| code)
}

/// Cells of a `DataRow`, in order.
///
/// # Errors
/// [`WireError`].
pub fn data_row<'a>(
    frame: &'a Frame,
    mut each: impl FnMut(usize, Option<&'a [u8]>),
) -> Result<usize, WireError> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count()?;
    for index in 0..count {
        each(index, reader.value()?);
    }
    reader.finish()?;
    Ok(count)
}

/// A refusal as a server's error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorText<'a> {
    /// `ERROR` or `FATAL`.
    pub severity: &'a str,
    pub code: &'a str,
    pub message: &'a str,
    pub detail: &'a str,
    pub hint: &'a str,
}

/// Writes an `ErrorResponse`; empty fields are left out.
pub fn put_error(out: &mut BytesMut, error: &ErrorText<'_>) {
    put_report(out, b'E', error);
}

/// Writes a `NoticeResponse`.
pub fn put_notice(out: &mut BytesMut, notice: &ErrorText<'_>) {
    put_report(out, b'N', notice);
}

fn put_report(out: &mut BytesMut, tag: u8, report: &ErrorText<'_>) {
    let fields = [
        (b'S', report.severity),
        (b'V', report.severity),
        (b'C', report.code),
        (b'M', report.message),
        (b'D', report.detail),
        (b'H', report.hint),
    ];
    message(out, tag, |out| {
        for (code, text) in fields {
            if !text.is_empty() {
                out.put_u8(code);
                cstr(out, text);
            }
        }
        out.put_u8(0);
    });
}

/// Writes `ReadyForQuery`.
pub fn put_ready(out: &mut BytesMut, status: u8) {
    message(out, b'Z', |out| out.put_u8(status));
}
