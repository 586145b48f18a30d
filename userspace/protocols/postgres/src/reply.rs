//! What the client is told by us: refusals in the server's own words and scrubbed messages.

use bytes::{BufMut, Bytes, BytesMut};
use weir_decide::Denial;
use weir_model::ident::SessionId;

use crate::understand::SqlRefusal;
use crate::wire::backend::{ErrorText, put_error};
use crate::wire::{cstr, message};

/// SQLSTATE `insufficient_privilege`.
pub(crate) const REFUSED: &str = "42501";

/// A denial as an `ErrorResponse`.
pub(crate) fn denial(denial: &Denial, session: SessionId) -> Bytes {
    let what = denial.access.as_ref().map(|access| {
        format!(
            " ({} on {} {})",
            access.action,
            access.object.kind,
            access.object.id()
        )
    });
    let text = format!(
        "weir: refused by rule \"{}\"{}",
        denial.rule,
        what.unwrap_or_default()
    );
    let hint = match &denial.advice {
        Some(advice) => format!("{advice} (session {session})"),
        None => format!("session {session}"),
    };
    let mut out = BytesMut::new();
    put_error(
        &mut out,
        &ErrorText {
            severity: "ERROR",
            code: REFUSED,
            message: &text,
            detail: &denial.reason,
            hint: &hint,
        },
    );
    out.freeze()
}

/// An error with a fixed sentence.
pub(crate) fn error(code: &str, text: &str, hint: &str) -> Bytes {
    let mut out = BytesMut::new();
    let error = ErrorText {
        severity: "ERROR",
        code,
        message: text,
        detail: "",
        hint,
    };
    put_error(&mut out, &error);
    out.freeze()
}

/// As the server says it; the name is the client's own, of this very message.
pub(crate) fn no_such(what: &str, code: &str, name: &str) -> Bytes {
    error(code, &format!("{what} \"{name}\" does not exist"), "")
}

/// The same of a prepared statement.
pub(crate) fn no_statement(name: &str) -> Bytes {
    if name.is_empty() {
        error("26000", "unnamed prepared statement does not exist", "")
    } else {
        no_such("prepared statement", "26000", name)
    }
}

/// Why a text was not understood; the server's own SQLSTATE where it has one.
pub(crate) fn refusal(refusal: &SqlRefusal, session: SessionId) -> (Bytes, &'static str) {
    let rule = match refusal {
        SqlRefusal::Syntax(_) | SqlRefusal::Nul | SqlRefusal::AsServer { .. } => "weir:syntax",
        SqlRefusal::TooDeep
        | SqlRefusal::TooLong
        | SqlRefusal::TooManyStatements
        | SqlRefusal::TooManyAccesses
        | SqlRefusal::TooComplex => "weir:too-complex",
        SqlRefusal::UnknownRelation(_) | SqlRefusal::UnknownColumn(_) => "weir:unknown-name",
        SqlRefusal::TransactionFailed => "weir:failed-transaction",
        SqlRefusal::Unsupported(_) | SqlRefusal::Pinned => "weir:unsupported",
        SqlRefusal::ReadOnly => "weir:read-only",
    };
    if matches!(
        refusal,
        SqlRefusal::TransactionFailed | SqlRefusal::AsServer { .. }
    ) {
        return (error(refusal.sqlstate(), &refusal.to_string(), ""), rule);
    }
    let text = format!("weir: {refusal}");
    (
        error(refusal.sqlstate(), &text, &format!("session {session}")),
        rule,
    )
}

/// A server's error or notice without anything that may carry a value: SQLSTATE, severity and
/// names of schema, table, column, constraint and type stay; texts become a fixed sentence.
pub(crate) fn scrub(tag: u8, fields: &[(u8, String)]) -> Bytes {
    let kept = fields
        .iter()
        .filter(|(code, _)| b"SVCstcdn".contains(code))
        .cloned();
    let text = "weir: the server's message is withheld, since masked values are in reach";
    let shown: Vec<_> = kept.chain([(b'M', text.to_owned())]).collect();
    said(tag, &shown)
}

/// A server's error or notice with these fields.
pub(crate) fn said(tag: u8, fields: &[(u8, String)]) -> Bytes {
    let mut out = BytesMut::new();
    message(&mut out, tag, |out| {
        for (code, text) in fields {
            out.put_u8(*code);
            cstr(out, text);
        }
        out.put_u8(0);
    });
    out.freeze()
}

/// A server's error or notice without its detail, which for a violated constraint shows a row.
pub(crate) fn without_detail(tag: u8, fields: &[(u8, String)]) -> Bytes {
    let kept = fields.iter().filter(|(code, _)| *code != b'D').cloned();
    let text = "weir: the row is withheld";
    let shown: Vec<_> = kept.chain([(b'D', text.to_owned())]).collect();
    said(tag, &shown)
}

/// Whether an error's detail shows a row: integrity constraints (class 23) and WITH CHECK OPTION
/// (class 44). The row may have columns that the statement does not name, so no obligation of its
/// own covers them.
pub(crate) fn shows_row(fields: &[(u8, String)]) -> bool {
    let code = fields.iter().find(|(code, _)| *code == b'C');
    code.is_some_and(|(_, code)| code.starts_with("23") || code.starts_with("44"))
        && fields.iter().any(|(code, _)| *code == b'D')
}
