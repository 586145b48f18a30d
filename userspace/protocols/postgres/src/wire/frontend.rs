//! Messages from the client.

use super::{Frame, Reader, WireError};

/// A decoded client message; texts and values borrow from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend<'a> {
    Query(&'a str),
    Parse {
        name: &'a str,
        sql: &'a str,
        types: Vec<u32>,
    },
    Bind(Bind<'a>),
    Describe(Named<'a>),
    Execute {
        portal: &'a str,
        rows_max: i32,
    },
    Close(Named<'a>),
    Flush,
    Sync,
    Terminate,
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail(&'a str),
    /// By the function's OID; its arguments stay in the frame.
    FunctionCall {
        oid: u32,
    },
    /// Password, SASL and GSS answers share one tag.
    Password(&'a [u8]),
}

/// A prepared statement or a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    Statement(&'a str),
    Portal(&'a str),
}

/// A `Bind` message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: Vec<i16>,
    pub parameters: Vec<Option<&'a [u8]>>,
    pub result_formats: Vec<i16>,
}

/// Decodes one frame.
///
/// # Errors
/// [`WireError`].
pub fn decode(frame: &Frame) -> Result<Frontend<'_>, WireError> {
    let mut reader = Reader::new(frame.body());
    let message = match frame.tag {
        b'Q' => Frontend::Query(reader.cstr()?),
        b'P' => {
            let (name, sql) = (reader.cstr()?, reader.cstr()?);
            let count = reader.count()?;
            let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
            Frontend::Parse { name, sql, types }
        }
        b'B' => Frontend::Bind(bind(&mut reader)?),
        b'D' => Frontend::Describe(named(&mut reader)?),
        b'E' => Frontend::Execute {
            portal: reader.cstr()?,
            rows_max: reader.i32()?,
        },
        b'C' => Frontend::Close(named(&mut reader)?),
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'd' => Frontend::CopyData(reader.remaining()),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(reader.cstr()?),
        b'F' => function_call(&mut reader)?,
        b'p' => Frontend::Password(reader.remaining()),
        other => return Err(WireError::Unknown(other)),
    };
    reader.finish()?;
    Ok(message)
}

fn named<'a>(reader: &mut Reader<'a>) -> Result<Named<'a>, WireError> {
    match reader.u8()? {
        b'S' => reader.cstr().map(Named::Statement),
        b'P' => reader.cstr().map(Named::Portal),
        other => Err(WireError::Unknown(other)),
    }
}

fn formats(reader: &mut Reader<'_>) -> Result<Vec<i16>, WireError> {
    let count = reader.count()?;
    (0..count)
        .map(|_| match reader.i16()? {
            format @ (0 | 1) => Ok(format),
            _ => Err(WireError::Length),
        })
        .collect()
}

fn function_call<'a>(reader: &mut Reader<'a>) -> Result<Frontend<'a>, WireError> {
    let oid = reader.u32()?;
    formats(reader)?;
    for _ in 0..reader.count()? {
        reader.value()?;
    }
    match reader.i16()? {
        0 | 1 => Ok(Frontend::FunctionCall { oid }),
        _ => Err(WireError::Length),
    }
}

fn bind<'a>(reader: &mut Reader<'a>) -> Result<Bind<'a>, WireError> {
    let (portal, statement) = (reader.cstr()?, reader.cstr()?);
    let parameter_formats = formats(reader)?;
    let count = reader.count()?;
    let parameters = (0..count)
        .map(|_| reader.value())
        .collect::<Result<_, _>>()?;
    let result_formats = formats(reader)?;
    Ok(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}
