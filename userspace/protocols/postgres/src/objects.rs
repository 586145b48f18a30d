//! What names stand for at the server: prepared statements, and portals with cursors.
//!
//! The server has one namespace for each, whether the protocol or SQL made the object. A row is
//! masked by what its name stands for, so the two sides must never disagree: a change is made
//! here when its message goes out, and taken back when the server says, or skips so, that it did
//! not happen.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of statements that name no object of the session are many"
)]

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir_decide::{Obligations, Permit};
use weir_govern::Ruling;
use weir_model::request::{Access, Intent, Recorded, Request};
use weir_model::time::Now;

use crate::cursor::Foreign;
use crate::expect_query::Understood;
use crate::parameters::ParameterTypes;
use crate::plan::{FieldsCell, Masking, Reach};
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{Changes, SqlRefusal, Statement, StatementKind};

/// Prepared statements, and portals with cursors, of one session.
pub(crate) const OBJECTS_MAX: usize = 10_000;
/// The server cuts longer names (`NAMEDATALEN` - 1), and two could become one.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// A prepared statement.
pub(crate) struct Prepared {
    pub(crate) statement: Arc<Statement>,
    pub(crate) recorded: Recorded,
    /// The text for the record.
    pub(crate) shown: Arc<str>,
    /// Parameters that are recorded as digests.
    pub(crate) secret: Vec<(usize, String)>,
    pub(crate) permit: Arc<Permit>,
    pub(crate) types: ParameterTypes,
    /// Known once the server described it.
    pub(crate) fields: FieldsCell,
    /// The plan of the first execution, for those after it with the same obligations and formats.
    pub(crate) plan: OnceLock<(Arc<Obligations>, Vec<i16>, Arc<Masking>)>,
    pub(crate) bytes: u64,
    /// What was understood, to be understood anew when names mean something else.
    pub(crate) text: Arc<str>,
    /// The text is an SQL `PREPARE … AS` around the statement.
    pub(crate) wrapped: bool,
    /// [`PostgresSession::epoch`] at that time.
    pub(crate) epoch: u64,
}

impl Prepared {
    /// Nothing in its reach is masked.
    pub(crate) fn is_clear(&self) -> bool {
        self.permit.obligations().masks.is_empty()
    }
}

/// A cursor declared in SQL; the server fixed its plan when it was declared.
pub(crate) struct Cursor {
    pub(crate) reach: Reach,
    pub(crate) permit: Arc<Permit>,
    pub(crate) changes: Changes,
}

/// A portal of the protocol.
pub(crate) struct Portal {
    pub(crate) prepared: Arc<Prepared>,
    /// What an EXECUTE or FETCH in it refers to since it was bound.
    pub(crate) referred: Option<Referred>,
    pub(crate) parameters: String,
    pub(crate) formats: Vec<i16>,
    pub(crate) bytes: u64,
    pub(crate) fields: FieldsCell,
    /// A Describe is on its way or done.
    pub(crate) described: bool,
}

/// What a name of the portal namespace stands for.
pub(crate) enum Open {
    Portal(Portal),
    Cursor { cursor: Arc<Cursor>, hold: bool },
}

/// An open name, and the number of the batch that made it.
pub(crate) struct Opened {
    pub(crate) open: Open,
    pub(crate) batch: u64,
}

/// What an EXECUTE or a FETCH runs.
#[derive(Clone)]
pub(crate) enum Referred {
    Statement(Arc<Prepared>),
    Cursor(Arc<Cursor>),
}

impl Referred {
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Statement(a), Self::Statement(b)) => Arc::ptr_eq(a, b),
            (Self::Cursor(a), Self::Cursor(b)) => Arc::ptr_eq(a, b),
            (Self::Statement(_), Self::Cursor(_)) | (Self::Cursor(_), Self::Statement(_)) => false,
        }
    }

    pub(crate) fn changes(&self) -> Changes {
        match self {
            Self::Statement(prepared) => prepared.statement.changes,
            Self::Cursor(cursor) => cursor.changes,
        }
    }
}

/// How a change is taken back.
pub(crate) enum Undo {
    Prepared(String, Option<Arc<Prepared>>),
    Open(String, Option<Opened>),
    AllPrepared(HashMap<String, Arc<Prepared>>),
}

/// Whether a prepared statement still means what it was understood as.
pub(crate) enum Fresh {
    Ready(Arc<Prepared>),
    /// Try again when the answer is here.
    Later,
    Refused(Bytes),
}

impl PostgresSession {
    pub(crate) fn set_prepared(&mut self, name: &str, to: Option<Arc<Prepared>>) -> Undo {
        let before = match to {
            Some(prepared) => self.prepared.insert(name.to_owned(), prepared),
            None => self.prepared.remove(name),
        };
        Undo::Prepared(name.to_owned(), before)
    }

    pub(crate) fn set_open(&mut self, name: &str, to: Option<Open>) -> Undo {
        let batch = self.batches_sent;
        let before = match to {
            Some(open) => self.open.insert(name.to_owned(), Opened { open, batch }),
            None => self.open.remove(name),
        };
        Undo::Open(name.to_owned(), before)
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Prepared(name, Some(before)) => {
                self.prepared.insert(name, before);
            }
            Undo::Prepared(name, None) => {
                self.prepared.remove(&name);
            }
            Undo::Open(name, Some(before)) => {
                self.open.insert(name, before);
            }
            Undo::Open(name, None) => {
                self.open.remove(&name);
            }
            Undo::AllPrepared(before) => self.prepared = before,
        }
    }

    pub(crate) fn portal(&self, name: &str) -> Option<&Portal> {
        match &self.open.get(name)?.open {
            Open::Portal(portal) => Some(portal),
            Open::Cursor { .. } => None,
        }
    }

    pub(crate) fn portal_mut(&mut self, name: &str) -> Option<&mut Portal> {
        match &mut self.open.get_mut(name)?.open {
            Open::Portal(portal) => Some(portal),
            Open::Cursor { .. } => None,
        }
    }

    /// The transaction of a batch has ended: its portals are gone, and cursors without hold.
    pub(crate) fn transaction_ended(&mut self) {
        let done = self.batches_done;
        self.open.retain(|_, opened| {
            opened.batch >= done || matches!(opened.open, Open::Cursor { hold: true, .. })
        });
    }

    /// What a statement that is on its way changes by its SQL; `text` is what it stands in.
    pub(crate) fn apply(
        &mut self,
        statement: &Statement,
        permit: &Arc<Permit>,
        text: &str,
    ) -> Option<Undo> {
        match &statement.kind {
            StatementKind::Prepare { name, inner } => {
                let inner = Arc::new(Statement::clone(inner));
                let prepared = Prepared {
                    recorded: Recorded::of(&inner.intent),
                    shown: self.recorded_text(&inner),
                    secret: self.secret_parameters(&inner),
                    statement: inner,
                    permit: Arc::clone(permit),
                    types: ParameterTypes::default(),
                    fields: FieldsCell::default(),
                    plan: OnceLock::new(),
                    bytes: 0,
                    text: Arc::from(text.get(statement.text.clone()).unwrap_or_default()),
                    wrapped: true,
                    epoch: self.epoch,
                };
                Some(self.set_prepared(name, Some(Arc::new(prepared))))
            }
            StatementKind::Deallocate { name: Some(name) } => Some(self.set_prepared(name, None)),
            StatementKind::Deallocate { name: None } | StatementKind::Discard { all: true } => {
                // The unnamed one is not in the server's table and stays. Cursors that DISCARD
                // ALL closes may stay here: the server refuses to read them.
                let before = std::mem::take(&mut self.prepared);
                let unnamed = before.get_key_value("");
                self.prepared
                    .extend(unnamed.map(|(name, it)| (name.clone(), Arc::clone(it))));
                Some(Undo::AllPrepared(before))
            }
            StatementKind::Declare { name, hold, inner } => {
                let inner = Arc::new(Statement::clone(inner));
                let cursor = Arc::new(Cursor {
                    reach: Reach::of(&inner, permit.obligations()),
                    permit: Arc::clone(permit),
                    changes: inner.changes,
                });
                Some(self.set_open(
                    name,
                    Some(Open::Cursor {
                        cursor,
                        hold: *hold,
                    }),
                ))
            }
            StatementKind::Close { name: Some(name) } => Some(self.set_open(name, None)),
            _ => None,
        }
    }

    /// What an EXECUTE or FETCH runs.
    pub(crate) fn refer(&self, statement: &Statement) -> Option<Referred> {
        if let Some(name) = statement.kind.executes() {
            return self.prepared.get(&**name).cloned().map(Referred::Statement);
        }
        match &statement.kind {
            StatementKind::Fetch { name, .. } => match &self.open.get(&**name)?.open {
                Open::Cursor { cursor, .. } => Some(Referred::Cursor(Arc::clone(cursor))),
                Open::Portal(portal) => Some(Referred::Statement(Arc::clone(&portal.prepared))),
            },
            _ => None,
        }
    }

    /// What is asked of policy: of EXECUTE, what it runs as well. `inner` is that statement.
    pub(crate) fn request(&mut self, statement: &Statement, inner: Option<&Statement>) -> Request {
        let intent = match inner {
            Some(inner) => {
                let mut accesses: Vec<Access> = statement.intent.accesses.to_vec();
                accesses.extend(inner.intent.accesses.iter().cloned());
                Arc::new(Intent::new(accesses, inner.intent.context.to_vec()))
            }
            None => Arc::clone(&statement.intent),
        };
        Request {
            recorded: Recorded::of(&intent),
            intent,
            statement: self.recorded_text(statement),
            parameters: String::new(),
            shape: statement.shape,
            decode_us: 0,
            bytes_in: statement.text.len() as u64,
        }
    }

    /// The statement behind an EXECUTE: of `earlier` ones of the same text, or of the session.
    pub(crate) fn executed(
        &self,
        statement: &Statement,
        earlier: &[Arc<Statement>],
    ) -> Option<Arc<Statement>> {
        let name = statement.kind.executes()?;
        let here = earlier.iter().rev().find_map(|one| match &one.kind {
            StatementKind::Prepare {
                name: prepared,
                inner,
            } if prepared == name => Some(Arc::new(Statement::clone(inner))),
            _ => None,
        });
        here.or_else(|| {
            self.prepared
                .get(&**name)
                .map(|it| Arc::clone(&it.statement))
        })
    }

    /// Checks the names in a text of SQL before anything of it is decided. `Ok(false)`: later.
    pub(crate) fn names_known(
        &mut self,
        statements: &[Arc<Statement>],
        now: Now,
    ) -> Result<bool, Bytes> {
        let known = self.each_name_known(statements, now);
        if known.is_err() && self.transaction == b'E' && self.idle() {
            // The server looks at nothing else then.
            let refusal = SqlRefusal::TransactionFailed;
            return Err(reply::refusal(&refusal, self.session_id()).0);
        }
        known
    }

    fn each_name_known(&mut self, statements: &[Arc<Statement>], now: Now) -> Result<bool, Bytes> {
        for (index, statement) in statements.iter().enumerate() {
            let earlier = statements.get(..index).unwrap_or(&[]);
            let (name, makes) = match &statement.kind {
                StatementKind::Prepare { name, .. } | StatementKind::Declare { name, .. } => {
                    (name, true)
                }
                StatementKind::Execute { name }
                | StatementKind::FillByExecute { name }
                | StatementKind::Explain {
                    executes: Some(name),
                    ..
                }
                | StatementKind::Fetch { name, .. }
                | StatementKind::Deallocate { name: Some(name) }
                | StatementKind::Close { name: Some(name) } => (name, false),
                _ => continue,
            };
            if name.len() > NAME_BYTES_MAX {
                return Err(too_long());
            }
            if makes && self.prepared.len() + self.open.len() >= OBJECTS_MAX {
                return Err(too_many());
            }
            let made_here = earlier.iter().any(|one| match &one.kind {
                StatementKind::Prepare { name: made, .. }
                | StatementKind::Declare { name: made, .. } => made == name,
                _ => false,
            });
            match &statement.kind {
                kind if kind.executes().is_some() && !made_here => match self.fresh(name, now) {
                    Fresh::Ready(_) => {}
                    Fresh::Later => return Ok(false),
                    Fresh::Refused(bytes) => return Err(bytes),
                },
                StatementKind::Fetch { name, .. }
                    if !made_here && !self.open.contains_key(&**name) =>
                {
                    match self.foreign_cursor(name) {
                        Foreign::Later => return Ok(false),
                        Foreign::Refused(bytes) => return Err(bytes),
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// The prepared statement of that name, understood anew when names mean something else now:
    /// the server plans it anew as well.
    pub(crate) fn fresh(&mut self, name: &str, now: Now) -> Fresh {
        let Some(prepared) = self.prepared.get(name).cloned() else {
            return Fresh::Refused(reply::no_statement(name));
        };
        let stale = self.names.stale || self.catalog_stale || self.catalog_is_old();
        if !stale && prepared.epoch == self.epoch {
            return Fresh::Ready(prepared);
        }
        let statement = match self.understand(&prepared.text) {
            Understood::Later => return Fresh::Later,
            Understood::Refused(refusal) => {
                let (bytes, rule) = reply::refusal(&refusal, self.session_id());
                self.record_refusal(rule, &refusal.to_string(), &prepared.text, now);
                return Fresh::Refused(match &refusal {
                    SqlRefusal::UnknownRelation(name) => reply::no_such("relation", "42P01", name),
                    _ => bytes,
                });
            }
            Understood::Statements(mut statements) => {
                statements.pop().or_else(|| self.nothing(&prepared.text))
            }
        };
        let statement = match (statement, prepared.wrapped) {
            (Some(statement), false) => Some(statement),
            (Some(statement), true) => match &statement.kind {
                StatementKind::Prepare { inner, .. } => Some(Arc::new(Statement::clone(inner))),
                _ => None,
            },
            (None, _) => None,
        };
        let Some(statement) = statement else {
            let text = "weir: the prepared statement has to be prepared again";
            return Fresh::Refused(reply::error("26000", text, ""));
        };
        self.renew(name, &prepared, statement, now)
    }

    fn renew(
        &mut self,
        name: &str,
        prepared: &Prepared,
        statement: Arc<Statement>,
        now: Now,
    ) -> Fresh {
        let request = self.request(&statement, None);
        let permit = if statement.intent == prepared.statement.intent {
            Arc::clone(&prepared.permit)
        } else {
            match self
                .governor
                .as_mut()
                .map(|governor| governor.prepare(&request, now))
            {
                Some(Ruling::Permit(permit)) => permit,
                Some(Ruling::Denial(refusal)) => {
                    return Fresh::Refused(reply::denial(&refusal.denial, self.session_id()));
                }
                Some(Ruling::Hold(_)) | None => {
                    let text = "weir: the statement cannot be prepared";
                    return Fresh::Refused(reply::error("42501", text, ""));
                }
            }
        };
        let renewed = Arc::new(Prepared {
            secret: self.secret_parameters(&statement),
            statement,
            recorded: request.recorded,
            shown: request.statement,
            permit,
            types: prepared.types.clone(),
            fields: FieldsCell::default(),
            plan: OnceLock::new(),
            bytes: prepared.bytes,
            text: Arc::clone(&prepared.text),
            wrapped: prepared.wrapped,
            epoch: self.epoch,
        });
        // The server does the same whether or not what follows succeeds: nothing to take back.
        self.prepared.insert(name.to_owned(), Arc::clone(&renewed));
        Fresh::Ready(renewed)
    }
}

pub(crate) fn too_long() -> Bytes {
    let text = "weir: names of statements, portals and cursors may have 63 bytes";
    reply::error("42622", text, "")
}

pub(crate) fn too_many() -> Bytes {
    let text = "weir: this session has too many prepared statements, portals and cursors";
    reply::error("53000", text, "")
}
