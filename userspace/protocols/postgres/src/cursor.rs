//! Cursors that functions opened: the agent names them in FETCH, and has never said what they read.
//!
//! The server knows their text (`pg_cursors`). It is understood in the session's own scope, where names
//! that nothing has are variables of the function; policy is asked about it as about what the agent
//! itself declares. Where the function's names meant something else, the server describes other columns
//! than were understood, and the result is not shown.

use std::sync::Arc;

use bytes::Bytes;
use weir_govern::Ruling;
use weir_model::request::{Recorded, Request};
use weir_model::time::Now;

use crate::expect_query::recordable;
use crate::objects::{Cursor, Open};
use crate::plan::Reach;
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{Statement, StatementKind, understand_of_function};

/// What is known of a cursor that the agent did not declare.
pub(crate) enum Foreign {
    /// The server is asked; try again when the answer is here.
    Later,
    /// It cannot be read.
    Refused(Bytes),
}

/// The text of a cursor of this session.
pub(crate) fn question(name: &str) -> String {
    format!(
        "select statement from pg_catalog.pg_cursors where name operator(pg_catalog.=) '{}'",
        name.replace('\'', "''")
    )
}

impl PostgresSession {
    /// What to do about a FETCH from a cursor that is not known here.
    pub(crate) fn foreign_cursor(&mut self, name: &str) -> Foreign {
        if let Some((_, refused)) = self.cursor_refused.take_if(|(of, _)| of == name) {
            return Foreign::Refused(refused);
        }
        if self.transaction == b'E' {
            return Foreign::Refused(reply::no_such("cursor", "34000", name));
        }
        if self.idle() {
            self.ask_server_of(self.catalog_stale, Some(name.to_owned()));
        } else {
            self.drain();
        }
        Foreign::Later
    }

    /// The server said what a cursor reads, or that there is none.
    pub(crate) fn cursor_said(&mut self, name: String, text: Option<String>, now: Now) {
        let refused = match text.as_deref().map(|text| self.cursor_of(text, now)) {
            Some(Ok(cursor)) => {
                let cursor = Arc::new(cursor);
                let _undo = self.set_open(
                    &name,
                    Some(Open::Cursor {
                        cursor,
                        hold: false,
                    }),
                );
                return;
            }
            Some(Err(refused)) => refused,
            None => reply::no_such("cursor", "34000", &name),
        };
        self.cursor_refused = Some((name, refused));
    }

    fn cursor_of(&mut self, text: &str, now: Now) -> Result<Cursor, Bytes> {
        let Some(statement) = self.cursor_statement(text) else {
            let text = "weir: what a function opened the cursor for is not understood";
            return Err(reply::error("0A000", text, ""));
        };
        let request = Request {
            recorded: Recorded::of(&statement.intent),
            intent: Arc::clone(&statement.intent),
            statement: Arc::from(recordable(text)),
            parameters: String::new(),
            shape: statement.shape,
            decode_us: 0,
            bytes_in: text.len() as u64,
        };
        let session = self.session_id();
        let ruling = (self.governor.as_mut()).map(|governor| governor.permit_unheld(&request, now));
        match ruling {
            Some(Ruling::Permit(permit)) => Ok(Cursor {
                reach: Reach::of(&statement, permit.obligations()),
                changes: statement.changes,
                permit,
            }),
            Some(Ruling::Denial(refusal)) => Err(reply::denial(&refusal.denial, session)),
            Some(Ruling::Hold(_)) | None => {
                let text = "weir: what a function opened the cursor for has to be approved";
                Err(reply::error("42501", text, "Declare the cursor yourself."))
            }
        }
    }

    fn cursor_statement(&self, text: &str) -> Option<Arc<Statement>> {
        let scope = self.scope(self.catalog.as_ref()?, false);
        let mut statements =
            understand_of_function(text, &scope, &self.limits, self.path_moved).ok()?;
        let statement = statements.pop().filter(|_| statements.is_empty())?;
        if let StatementKind::Declare { inner, .. } = statement.kind {
            return Some(Arc::from(inner));
        }
        matches!(statement.kind, StatementKind::Select).then(|| Arc::new(statement))
    }
}
