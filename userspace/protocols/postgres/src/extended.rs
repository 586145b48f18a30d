//! The extended protocol: prepared statements, portals, and refusals within a pipeline.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use weir_decide::Permit;
use weir_govern::{OwnToServer, Refusal, Ruling};
use weir_model::request::Request;
use weir_model::time::Now;

use crate::expect_query::{FAILING, Then, Understood};
use crate::named_settings;
use crate::objects::{
    Fresh, NAME_BYTES_MAX, OBJECTS_MAX, Open, Portal, Prepared, Referred, too_long, too_many,
};
use crate::parameters::{self, Types};
use crate::pipeline::{Described, Expect, Staged};
use crate::plan::FieldsCell;
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{SqlRefusal, Statement};
use crate::wire::frontend::{Bind, Named};
use crate::wire::{Frame, cstr, message};

/// A `Parse` message.
struct ParseOf<'a> {
    frame: &'a Frame,
    name: &'a str,
    sql: &'a str,
    types: Vec<u32>,
}

impl PostgresSession {
    /// An error in order with the server's answers; then everything up to Sync is skipped.
    pub(crate) fn refuse_extended(&mut self, bytes: Bytes) {
        self.staged.push_back(Staged::Local(bytes));
        let mut out = BytesMut::new();
        message(&mut out, b'P', |out| {
            cstr(out, "");
            cstr(out, FAILING);
            out.extend_from_slice(&[0, 0]);
        });
        let own = Staged::Own {
            kind: OwnToServer::Probe,
            bytes: out.freeze(),
            expect: vec![Expect::HiddenError],
        };
        self.staged.push_back(own);
        self.prepared.remove("");
        self.skipping = true;
        self.release_own();
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the message")]
    pub(crate) fn parse(
        &mut self,
        frame: &Frame,
        name: &str,
        sql: &str,
        types: Vec<u32>,
        now: Now,
    ) -> bool {
        if name.len() > NAME_BYTES_MAX {
            self.refuse_extended(too_long());
            return true;
        }
        if self.prepared.len() >= OBJECTS_MAX && !self.prepared.contains_key(name) {
            self.refuse_extended(too_many());
            return true;
        }
        let statement = match self.understand(sql) {
            Understood::Later => return false,
            Understood::Refused(refusal) => {
                self.refuse_text(&refusal, sql, Some(&types), now);
                return true;
            }
            Understood::Statements(statements) if statements.len() > 1 => {
                let text = "cannot insert multiple commands into a prepared statement";
                let refusal = SqlRefusal::Syntax(text.to_owned());
                self.refuse_text(&refusal, sql, Some(&types), now);
                return true;
            }
            Understood::Statements(mut statements) => {
                match self.names_known(&statements, now) {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(bytes) => {
                        let reason = "a name of the session's own objects cannot be used";
                        self.record_refusal("weir:unknown-name", reason, sql, now);
                        self.refuse_extended(bytes);
                        return true;
                    }
                }
                statements.pop()
            }
        };
        let parse = ParseOf {
            frame,
            name,
            sql,
            types,
        };
        self.prepare(parse, statement, now);
        true
    }

    fn prepare(&mut self, parse: ParseOf<'_>, statement: Option<Arc<Statement>>, now: Now) {
        let bytes = parse.frame.whole.len() as u64;
        let Some(statement) = statement.or_else(|| self.nothing(parse.sql)) else {
            let text = "weir: the empty statement cannot be prepared";
            return self.refuse_extended(reply::error("54001", text, ""));
        };
        if !named_settings::are_texts(&statement, &parse.types) {
            let (bytes, rule) = reply::refusal(&SqlRefusal::Pinned, self.session_id());
            self.record_refusal(rule, &SqlRefusal::Pinned.to_string(), parse.sql, now);
            return self.refuse_extended(bytes);
        }
        let inner = self.executed(&statement, &[]);
        let secret = self.secret_parameters(&statement);
        let request = self.request(&statement, inner.as_deref());
        let request = Request {
            bytes_in: bytes,
            ..request
        };
        let Some(ruling) = self
            .governor
            .as_mut()
            .map(|governor| governor.prepare(&request, now))
        else {
            return;
        };
        match ruling {
            Ruling::Permit(permit) => {
                if let Some(bytes) = self.unmaskable(&statement, inner.as_deref(), &permit, now) {
                    return self.refuse_extended(bytes);
                }
                let clear = permit.obligations().masks.is_empty();
                let unseen = statement.unseen;
                let prepared = Prepared {
                    statement,
                    recorded: request.recorded,
                    shown: Arc::clone(&request.statement),
                    secret,
                    permit: Arc::clone(&permit),
                    types: parse.types.into(),
                    fields: FieldsCell::default(),
                    plan: OnceLock::new(),
                    bytes,
                    text: Arc::from(parse.sql),
                    wrapped: false,
                    epoch: self.epoch,
                };
                let undo = self.set_prepared(parse.name, Some(Arc::new(prepared)));
                self.staged.push_back(Staged::Forward {
                    permit,
                    bytes: parse.frame.whole.clone(),
                    expect: vec![Expect::ParseDone {
                        undo,
                        clear,
                        unseen,
                    }],
                });
            }
            Ruling::Denial(refusal) => self.deny_extended(&refusal),
            Ruling::Hold(_) => {
                let text = "weir: the statement cannot be prepared";
                self.refuse_extended(reply::error("42501", text, ""));
            }
        }
    }

    pub(crate) fn deny_extended(&mut self, refusal: &Refusal) {
        let bytes = reply::denial(&refusal.denial, self.session_id());
        self.refuse_extended(bytes);
    }

    /// Sends what the newest receipt covers already; the rest waits for the next one.
    pub(crate) fn forward(&mut self, permit: &Arc<Permit>, bytes: Bytes, expect: Vec<Expect>) {
        self.staged.push_back(Staged::Forward {
            permit: Arc::clone(permit),
            bytes,
            expect,
        });
        self.release_recorded();
    }

    /// False when the message has to wait.
    pub(crate) fn bind(&mut self, frame: &Frame, bind: &Bind<'_>, now: Now) -> bool {
        let prepared = match self.fresh(bind.statement, now) {
            Fresh::Ready(prepared) => prepared,
            Fresh::Later => return false,
            Fresh::Refused(bytes) => {
                self.refuse_extended(bytes);
                return true;
            }
        };
        if !self.may_set(&prepared, bind, now) {
            return true;
        }
        if bind.portal.len() > NAME_BYTES_MAX {
            self.refuse_extended(too_long());
            return true;
        }
        if self.open.len() >= OBJECTS_MAX && !self.open.contains_key(bind.portal) {
            self.refuse_extended(too_many());
            return true;
        }
        let types = Types {
            known: prepared.types.known(),
            catalog: self.catalog.as_deref(),
        };
        let secret = (&*prepared.secret, &self.config.mask_key);
        let governor = &mut self.governor;
        let mut large = |value: &[u8], text: &str| match governor {
            Some(governor) => governor.large_parameter(value, text, now),
            None => format!("…({} bytes)", value.len()),
        };
        let parameters = parameters::json(bind, types, secret, &mut large);
        let portal = Portal {
            referred: self.refer(&prepared.statement),
            parameters,
            formats: bind.result_formats.clone(),
            bytes: prepared.bytes + frame.whole.len() as u64,
            fields: FieldsCell::default(),
            described: false,
            prepared: Arc::clone(&prepared),
        };
        let undo = self.set_open(bind.portal, Some(Open::Portal(portal)));
        let expect = vec![Expect::BindDone {
            undo,
            clear: prepared.is_clear(),
            unseen: prepared.statement.unseen,
        }];
        self.forward(&prepared.permit, frame.whole.clone(), expect);
        true
    }

    /// False when the message has to wait.
    pub(crate) fn describe(&mut self, frame: &Frame, named: Named<'_>, now: Now) -> bool {
        let (permit, what) = match named {
            Named::Statement(name) => match self.fresh(name, now) {
                Fresh::Ready(prepared) => {
                    let what = Described::of(&prepared, None);
                    (Arc::clone(&prepared.permit), what)
                }
                Fresh::Later => return false,
                Fresh::Refused(bytes) => {
                    self.refuse_extended(bytes);
                    return true;
                }
            },
            Named::Portal(name) => match self.open.get_mut(name).map(|opened| &mut opened.open) {
                Some(Open::Portal(portal)) => {
                    portal.described = true;
                    let what = Described::of(&portal.prepared, Some(&portal.fields));
                    (Arc::clone(&portal.prepared.permit), what)
                }
                Some(Open::Cursor { cursor, .. }) => {
                    let clear = cursor.reach.is_clear();
                    let what = Described {
                        clear,
                        unseen: cursor.reach.runs_unseen(),
                        portal: None,
                        statement: None,
                        parameters: None,
                    };
                    (Arc::clone(&cursor.permit), what)
                }
                None => {
                    self.refuse_extended(reply::no_such("portal", "34000", name));
                    return true;
                }
            },
        };
        let expect = Expect::Describe {
            hidden: false,
            what,
        };
        self.forward(&permit, frame.whole.clone(), vec![expect]);
        true
    }

    pub(crate) fn execute(&mut self, frame: &Frame, name: &str, now: Now) {
        let Some(portal) = self.portal(name) else {
            return self.refuse_extended(reply::no_such("portal", "34000", name));
        };
        let statement = Arc::clone(&portal.prepared.statement);
        let referred = self.refer(&statement);
        let unchanged = match (&referred, &portal.referred) {
            (Some(now), Some(bound)) => now.same(bound),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !unchanged {
            let text = "weir: what the portal refers to has changed since it was bound";
            return self.refuse_extended(reply::error("0A000", text, ""));
        }
        let request = match &referred {
            Some(Referred::Statement(inner)) => {
                let inner = Arc::clone(&inner.statement);
                let (parameters, bytes_in) = (portal.parameters.clone(), portal.bytes);
                let request = self.request(&statement, Some(&inner));
                Request {
                    parameters,
                    bytes_in,
                    ..request
                }
            }
            Some(Referred::Cursor(_)) | None => Request {
                intent: Arc::clone(&statement.intent),
                recorded: portal.prepared.recorded.clone(),
                statement: Arc::clone(&portal.prepared.shown),
                parameters: portal.parameters.clone(),
                shape: statement.shape,
                bytes_in: portal.bytes,
                decode_us: 0,
            },
        };
        match self.rule(request, now) {
            None => {}
            Some(Ruling::Permit(permit)) => {
                self.run_portal(name, &permit, frame.whole.clone(), now);
            }
            Some(Ruling::Denial(refusal)) => self.deny_extended(&refusal),
            Some(Ruling::Hold(hold)) => {
                let then = Then::Execute {
                    portal: name.to_owned(),
                    frame: frame.whole.clone(),
                };
                self.hold(*hold, then, now);
            }
        }
    }

    pub(crate) fn run_portal(&mut self, name: &str, permit: &Arc<Permit>, frame: Bytes, now: Now) {
        let Some(portal) = self.portal(name) else {
            return;
        };
        let prepared = Arc::clone(&portal.prepared);
        let referred = portal.referred.clone();
        let (formats, described) = (portal.formats.clone(), portal.described);
        let statement = Arc::clone(&prepared.statement);
        let inner = match &referred {
            Some(Referred::Statement(inner)) => Some(Arc::clone(&inner.statement)),
            Some(Referred::Cursor(_)) | None => None,
        };
        if let Some(bytes) = self.unmaskable(&statement, inner.as_deref(), permit, now) {
            return self.refuse_extended(bytes);
        }
        let mut running = self.running(&statement, permit, referred.as_ref());
        running.formats = formats;
        running.undo = self.apply(&statement, permit, &prepared.text);
        if running.kind == crate::pipeline::Flow::CopyIn {
            self.copy_permit = Some(Arc::clone(permit));
        }
        if !described && statement.returns_rows {
            let known = referred.is_none() && prepared.fields.get().is_some();
            if let Some(portal) = self.portal_mut(name) {
                portal.described = true;
                if known {
                    portal.fields = Arc::clone(&prepared.fields);
                }
            }
            if !known {
                self.describe_ourselves(name, &prepared);
            }
        }
        if let Some(portal) = self.portal(name) {
            running.fields = Arc::clone(&portal.fields);
        }
        if referred.is_none() {
            running.prepared = Some(prepared);
        }
        self.staged.push_back(Staged::Forward {
            permit: Arc::clone(permit),
            bytes: frame,
            expect: vec![Expect::Execute(Box::new(running))],
        });
        self.release_recorded();
    }

    /// The client does not ask, so we do: rows cannot be masked without their types.
    fn describe_ourselves(&mut self, name: &str, prepared: &Arc<Prepared>) {
        let mut out = BytesMut::new();
        message(&mut out, b'D', |out| {
            out.extend_from_slice(b"P");
            cstr(out, name);
        });
        let cell = self.portal(name).map(|portal| Arc::clone(&portal.fields));
        let what = Described::of(prepared, cell.as_ref());
        self.staged.push_back(Staged::Own {
            kind: OwnToServer::Probe,
            bytes: out.freeze(),
            expect: vec![Expect::Describe { hidden: true, what }],
        });
    }

    pub(crate) fn close_object(&mut self, frame: &Frame, named: Named<'_>) {
        let name = match named {
            Named::Statement(name) | Named::Portal(name) => name,
        };
        if name.len() > NAME_BYTES_MAX {
            return self.refuse_extended(too_long());
        }
        let undo = match named {
            Named::Statement(name) => self.set_prepared(name, None),
            Named::Portal(name) => self.set_open(name, None),
        };
        let own = Staged::Own {
            kind: OwnToServer::CloseObject,
            bytes: frame.whole.clone(),
            expect: vec![Expect::CloseDone(undo)],
        };
        self.staged.push_back(own);
        self.release_own();
    }
}
