//! The extended protocol: prepared statements, portals, and refusals within a pipeline.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::Permit;
use weir_govern::{OwnToServer, Refusal, Ruling};
use weir_model::request::{Recorded, Request};
use weir_model::time::Now;

use crate::expect_query::{FAILING, OBJECTS_MAX, Portal, Prepared, Then, Understood};
use crate::parameters;
use crate::pipeline::{Described, Expect, Running, Staged};
use crate::plan::{FieldsCell, MaskingCell, Reach};
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::Statement;
use crate::wire::frontend::{Bind, Named};
use crate::wire::{Frame, cstr, message};

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
        if self.prepared.len() >= OBJECTS_MAX && !self.prepared.contains_key(name) {
            self.refuse_extended(reply::error(
                "53000",
                "weir: this session has too many prepared statements",
                "",
            ));
            return true;
        }
        let statement = match self.understand(sql, now) {
            Understood::Later => return false,
            Understood::Refused(refusal) => {
                let (bytes, rule) = reply::refusal(&refusal, self.session_id());
                self.record_refusal(rule, &refusal.to_string(), sql, now);
                self.refuse_extended(bytes);
                return true;
            }
            Understood::Statements(statements) if statements.len() > 1 => {
                let text = "weir: cannot insert multiple commands into a prepared statement";
                self.record_refusal("weir:syntax", text, sql, now);
                self.refuse_extended(reply::error("42601", text, ""));
                return true;
            }
            Understood::Statements(mut statements) => statements.pop(),
        };
        self.prepare(frame, name, statement, types, now);
        true
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the message")]
    pub(crate) fn prepare(
        &mut self,
        frame: &Frame,
        name: &str,
        statement: Option<Arc<Statement>>,
        types: Vec<u32>,
        now: Now,
    ) {
        let bytes = frame.whole.len() as u64;
        let Some(statement) = statement else {
            let text = "weir: an empty statement cannot be prepared through Weir";
            return self.refuse_extended(reply::error("0A000", text, ""));
        };
        let recorded = Recorded::of(&statement.intent);
        let text = self.recorded_text(&statement);
        let secret = self.secret_parameters(&statement);
        let request = Request {
            intent: Arc::clone(&statement.intent),
            recorded: recorded.clone(),
            statement: Arc::clone(&text),
            parameters: String::new(),
            shape: statement.shape,
            bytes_in: bytes,
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
                if let Some(bytes) = self.unmaskable(&statement, &permit, now) {
                    return self.refuse_extended(bytes);
                }
                let prepared = Prepared {
                    statement: Some(statement),
                    recorded: Some(recorded),
                    text,
                    secret,
                    permit: Arc::clone(&permit),
                    types,
                    fields: FieldsCell::default(),
                    bytes,
                };
                self.prepared.insert(name.to_owned(), Arc::new(prepared));
                self.staged.push_back(Staged::Forward {
                    permit,
                    bytes: frame.whole.clone(),
                    expect: vec![Expect::ParseDone],
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

    pub(crate) fn bind(&mut self, frame: &Frame, bind: &Bind<'_>, now: Now) {
        let Some(prepared) = self.prepared.get(bind.statement).cloned() else {
            let text = "weir: the prepared statement does not exist";
            return self.refuse_extended(reply::error("26000", text, ""));
        };
        if self.portals.len() >= OBJECTS_MAX && !self.portals.contains_key(bind.portal) {
            let text = "weir: this session has too many portals";
            return self.refuse_extended(reply::error("53000", text, ""));
        }
        let _ = now;
        let portal = Portal {
            parameters: parameters::json(
                bind,
                &prepared.types,
                &prepared.secret,
                &self.config.mask_key,
            ),
            formats: bind.result_formats.clone(),
            bytes: prepared.bytes + frame.whole.len() as u64,
            masking: MaskingCell::default(),
            described: false,
            prepared: Arc::clone(&prepared),
        };
        self.portals.insert(bind.portal.to_owned(), portal);
        self.forward(
            &prepared.permit,
            frame.whole.clone(),
            vec![Expect::BindDone],
        );
    }

    pub(crate) fn describe(&mut self, frame: &Frame, named: Named<'_>, _now: Now) {
        let (prepared, formats, masking) = match named {
            Named::Statement(name) => match self.prepared.get(name) {
                Some(prepared) => (Arc::clone(prepared), Vec::new(), None),
                None => {
                    let text = "weir: the prepared statement does not exist";
                    return self.refuse_extended(reply::error("26000", text, ""));
                }
            },
            Named::Portal(name) => match self.portals.get_mut(name) {
                Some(portal) => {
                    portal.described = true;
                    let masking = Some(Arc::clone(&portal.masking));
                    (
                        Arc::clone(&portal.prepared),
                        portal.formats.clone(),
                        masking,
                    )
                }
                None => return self.describe_cursor(frame, name),
            },
        };
        let reach = self.prepared_reach(&prepared, &prepared.permit);
        let fields = Some(Arc::clone(&prepared.fields));
        let what = Box::new(Described {
            reach,
            formats,
            masking,
            fields,
        });
        let expect = Expect::Describe {
            hidden: false,
            what,
        };
        self.forward(&prepared.permit, frame.whole.clone(), vec![expect]);
    }

    /// A cursor declared in SQL is a portal of the server.
    pub(crate) fn describe_cursor(&mut self, frame: &Frame, name: &str) {
        let Some(cursor) = self.cursors.get(name) else {
            let text = "weir: the portal does not exist";
            return self.refuse_extended(reply::error("34000", text, ""));
        };
        let reach = Reach::clone(&cursor.reach);
        let permit = Arc::clone(&cursor.permit);
        let what = Box::new(Described {
            reach,
            formats: Vec::new(),
            masking: None,
            fields: None,
        });
        let expect = Expect::Describe {
            hidden: false,
            what,
        };
        self.forward(&permit, frame.whole.clone(), vec![expect]);
    }

    pub(crate) fn prepared_reach(&mut self, prepared: &Prepared, permit: &Arc<Permit>) -> Reach {
        match &prepared.statement {
            Some(statement) => {
                let statement = Arc::clone(statement);
                self.reach(&statement, permit)
            }
            None => Reach {
                columns: None,
                obligations: Arc::clone(permit.obligations()),
                reads: Arc::default(),
            },
        }
    }

    pub(crate) fn execute(&mut self, frame: &Frame, name: &str, now: Now) {
        let Some(portal) = self.portals.get(name) else {
            let text = "weir: the portal does not exist";
            return self.refuse_extended(reply::error("34000", text, ""));
        };
        let prepared = Arc::clone(&portal.prepared);
        let (Some(statement), Some(recorded)) = (&prepared.statement, &prepared.recorded) else {
            return;
        };
        let request = Request {
            intent: Arc::clone(&statement.intent),
            recorded: recorded.clone(),
            statement: Arc::clone(&prepared.text),
            parameters: portal.parameters.clone(),
            shape: statement.shape,
            bytes_in: portal.bytes,
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
                self.hold(*hold, then);
            }
        }
    }

    pub(crate) fn run_portal(&mut self, name: &str, permit: &Arc<Permit>, frame: Bytes, now: Now) {
        let Some(portal) = self.portals.get(name) else {
            return;
        };
        let prepared = Arc::clone(&portal.prepared);
        let (formats, described) = (portal.formats.clone(), portal.described);
        let masking = Arc::clone(&portal.masking);
        let Some(statement) = prepared.statement.clone() else {
            return;
        };
        if let Some(bytes) = self.unmaskable(&statement, permit, now) {
            return self.refuse_extended(bytes);
        }
        let mut running = self.running(&statement, permit);
        running.masking = masking;
        if running.kind == crate::pipeline::Flow::CopyIn {
            self.copy_permit = Some(Arc::clone(permit));
        }
        if !described && statement.returns_rows {
            match prepared.fields.get() {
                Some(fields) => {
                    let plan = self.plan(&running.reach, fields, &formats);
                    let _known = running.masking.set(plan);
                }
                None => self.describe_ourselves(name, &running, formats, &prepared),
            }
            if let Some(portal) = self.portals.get_mut(name) {
                portal.described = true;
            }
        }
        self.note_changes(&statement);
        self.staged.push_back(Staged::Forward {
            permit: Arc::clone(permit),
            bytes: frame,
            expect: vec![Expect::Execute(Box::new(running))],
        });
        self.release_recorded();
    }

    /// The client does not ask, so we do: rows cannot be masked without their types.
    pub(crate) fn describe_ourselves(
        &mut self,
        name: &str,
        running: &Running,
        formats: Vec<i16>,
        prepared: &Prepared,
    ) {
        let mut out = BytesMut::new();
        message(&mut out, b'D', |out| {
            out.extend_from_slice(b"P");
            cstr(out, name);
        });
        let what = Box::new(Described {
            reach: running.reach.clone(),
            formats,
            masking: Some(Arc::clone(&running.masking)),
            fields: Some(Arc::clone(&prepared.fields)),
        });
        self.staged.push_back(Staged::Own {
            kind: OwnToServer::Probe,
            bytes: out.freeze(),
            expect: vec![Expect::Describe { hidden: true, what }],
        });
    }

    pub(crate) fn close_object(&mut self, frame: &Frame, named: Named<'_>) {
        match named {
            Named::Statement(name) => {
                self.prepared.remove(name);
            }
            Named::Portal(name) => {
                self.portals.remove(name);
            }
        }
        let own = Staged::Own {
            kind: OwnToServer::CloseObject,
            bytes: frame.whole.clone(),
            expect: vec![Expect::CloseDone],
        };
        self.staged.push_back(own);
        self.release_own();
    }

    pub(crate) fn unsupported(&mut self, what: &'static str, _frame: &Frame, now: Now) {
        self.record_refusal("weir:unsupported", what, "", now);
        let text = format!("weir: {what}");
        let bytes = reply::error("0A000", &text, "");
        // A function call is a message of its own, ended by ReadyForQuery as a query is.
        if self.idle() {
            self.refuse_query(bytes);
        } else {
            self.refuse_extended(bytes);
        }
    }
}
