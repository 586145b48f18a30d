//! What the server says beside results: notices, notifications, errors. Which of it may hold a value
//! that is masked for this principal or that detectors find, and what is passed on of it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use weir_govern::OwnToClient;
use weir_mask::without_secrets;
use weir_model::request::Object;

use crate::catalog::{Column, Relation};
use crate::pipeline::Expect;
use crate::reply::{said, scrub, shows_row, without_detail};
use crate::session::PostgresSession;
use crate::wire::{Frame, Reader, backend, cstr, message};

/// Stands for the payload of a notification, and for texts that detectors should have looked through.
const WITHHELD: &str = "[withheld]";

impl PostgresSession {
    /// Whether policy masks anything of this database for this principal.
    pub(crate) fn masks_any(&mut self) -> bool {
        let (Some(governor), Some(catalog)) = (&mut self.governor, &self.catalog) else {
            return true;
        };
        if !governor.masks_any() {
            return false;
        }
        if let Some(known) = self.masks_here {
            return known;
        }
        let found = catalog.relations().any(|relation| {
            relation.columns.iter().any(|column| {
                let object = column_object(&self.config.target, &self.database, relation, column);
                governor.masks(&object)
            })
        });
        self.masks_here = Some(found);
        found
    }

    /// Whether what runs at the front has no masked value in reach: neither its own nor, where code
    /// runs that is not seen here, any other.
    fn clear(&mut self) -> bool {
        let (clear, unseen) = match self.expected.front() {
            Some(Expect::Statement(running) | Expect::Execute(running)) => {
                (running.reach.is_clear(), running.reach.runs_unseen())
            }
            Some(Expect::Describe { what, .. }) => (what.clear, what.unseen),
            Some(
                Expect::ParseDone { clear, unseen, .. } | Expect::BindDone { clear, unseen, .. },
            ) => (*clear, *unseen),
            // Deferred triggers run at the end of the transaction.
            Some(_) | None => (true, false),
        };
        clear && !((unseen || self.unseen_in_transaction) && self.masks_any())
    }

    pub(crate) fn notice(&mut self, frame: &Frame) {
        let Ok(fields) = backend::error_fields(frame) else {
            return self.confused();
        };
        if matches!(self.expected.front(), Some(Expect::Probe(_))) {
            return;
        }
        // That there is one may depend on a value.
        if self.clear() {
            let bytes = match self.looked_through(&fields) {
                Some(shown) => said(b'N', &shown),
                None => frame.whole.clone(),
            };
            self.pass_to_client(OwnToClient::ServerMessage, bytes);
        }
    }

    /// Where policy asks for detectors, they look through what the server says, whichever statement it
    /// is about: a value may have gone into it by any way. `None` when nothing has to change.
    fn looked_through(&self, fields: &[(u8, String)]) -> Option<Vec<(u8, String)>> {
        if !self.detects_any() {
            return None;
        }
        let shown = fields.iter().map(|(code, text)| {
            // Severity, SQLSTATE, names of objects, and places in the text and in the server's source.
            let fixed = b"SVCstcdnFLRpP".contains(code);
            let text = if fixed {
                text.clone()
            } else {
                self.shown(text)
            };
            (*code, text)
        });
        let shown: Vec<_> = shown.collect();
        (shown != fields).then_some(shown)
    }

    /// A setting as it is reported, where detectors change it: `application_name` takes any text.
    pub(crate) fn shown_status(&self, name: &str, value: &str) -> Option<Bytes> {
        let shown = self.detects_any().then(|| self.shown(value));
        let shown = shown.filter(|shown| shown != value)?;
        let mut out = BytesMut::new();
        message(&mut out, b'S', |out| {
            cstr(out, name);
            cstr(out, &shown);
        });
        Some(out.freeze())
    }

    fn shown(&self, text: &str) -> String {
        match &self.config.patterns {
            Some(patterns) => without_secrets(patterns, text),
            None => WITHHELD.to_owned(),
        }
    }

    pub(crate) fn detects_any(&self) -> bool {
        let governor = self.governor.as_ref();
        governor.is_some_and(|governor| governor.detects_any())
    }

    /// A payload may hold any value, whoever sent it; it is passed only to those from whom nothing is
    /// kept. Others still hear that there was one.
    pub(crate) fn notification(&mut self, frame: &Frame) {
        let mut reader = Reader::new(frame.body());
        let (Ok(pid), Ok(channel)) = (reader.i32(), reader.cstr()) else {
            return self.confused();
        };
        let payload = if self.masks_any() {
            WITHHELD.to_owned()
        } else if self.detects_any() {
            match reader.cstr() {
                Ok(payload) => self.shown(payload),
                Err(_) => return self.confused(),
            }
        } else {
            return self.pass_to_client(OwnToClient::ServerMessage, frame.whole.clone());
        };
        // A channel is a name that this session has listened to.
        let mut out = BytesMut::new();
        message(&mut out, b'A', |out| {
            out.put_i32(pid);
            cstr(out, channel);
            cstr(out, &payload);
        });
        self.pass_to_client(OwnToClient::ServerMessage, out.freeze());
    }

    /// The server's error, as far as the client may see it.
    pub(crate) fn pass_error(&mut self, frame: &Frame, fields: &[(u8, String)]) {
        let shown = self.looked_through(fields);
        let bytes = if !self.clear() {
            scrub(b'E', fields)
        } else if shows_row(fields) && self.hides_row(fields) {
            without_detail(b'E', shown.as_deref().unwrap_or(fields))
        } else if let Some(shown) = shown {
            said(b'E', &shown)
        } else {
            frame.whole.clone()
        };
        self.pass_to_client(OwnToClient::ServerMessage, bytes);
    }

    /// Whether the row of a violated constraint may have a column that is masked: of the table that the
    /// server names, any column counts. A foreign key shows the key of another table.
    fn hides_row(&mut self, fields: &[(u8, String)]) -> bool {
        if !self.masks_any() {
            return false;
        }
        let text = |wanted: u8| {
            let found = fields.iter().find(|(code, _)| *code == wanted);
            found.map_or("", |(_, text)| text.as_str())
        };
        let (Some(catalog), Some(governor)) = (&self.catalog, &mut self.governor) else {
            return true;
        };
        let relation = catalog.relation_in(text(b's'), text(b't'));
        let (Some(relation), false) = (relation, text(b'C') == "23503") else {
            return true;
        };
        relation.columns.iter().any(|column| {
            let object = column_object(&self.config.target, &self.database, relation, column);
            governor.masks(&object)
        })
    }
}

fn column_object(
    target: &Arc<str>,
    database: &Arc<str>,
    relation: &Relation,
    column: &Column,
) -> Object {
    Object {
        kind: "Column",
        path: [
            target,
            database,
            &relation.schema,
            &relation.name,
            &column.name,
        ]
        .map(Arc::clone)
        .into(),
    }
}
