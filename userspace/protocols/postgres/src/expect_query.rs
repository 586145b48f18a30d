//! Conversation: simple and extended queries, COPY data, holds.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::{Denial, Permit};
use weir_govern::{
    CloseReason, Governor, Hold, HoldRequest, Output, OwnToClient, OwnToServer, Refusal, Ruling,
    Verdict,
};
use weir_model::ident::ApprovalId;
use weir_model::request::{Recorded, Request};
use weir_model::time::Now;

use crate::parameters;
use crate::pipeline::{Described, Expect, Running, Staged};
use crate::plan::{FieldsCell, MaskingCell, Reach};
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{NameScope, SqlRefusal, Statement, StatementKind, Transaction, understand};
use crate::wire::backend::{ErrorText, put_notice, put_ready};
use crate::wire::frontend::{self, Bind, Frontend, Named};
use crate::wire::{self, Frame, cstr, message};

/// Prepared statements and portals of one session.
const OBJECTS_MAX: usize = 10_000;
/// Text of our own that fails at the server, so that its transaction fails as the client is told.
const FAILING: &str = "/* a statement was refused by weir */ refused";

/// A prepared statement.
pub(crate) struct Prepared {
    /// `None` for an empty text.
    pub(crate) statement: Option<Arc<Statement>>,
    pub(crate) recorded: Option<Recorded>,
    pub(crate) permit: Arc<Permit>,
    pub(crate) types: Vec<u32>,
    /// Known once the server described it.
    fields: FieldsCell,
    bytes: u64,
}

/// A portal.
pub(crate) struct Portal {
    prepared: Arc<Prepared>,
    parameters: String,
    formats: Vec<i16>,
    bytes: u64,
    masking: MaskingCell,
    /// A Describe is on its way or done.
    described: bool,
}

/// A cursor declared in SQL, or a statement prepared in SQL.
pub(crate) struct Cursor {
    reach: Arc<Reach>,
    permit: Arc<Permit>,
}

/// A held request and what to do when it is decided.
pub(crate) struct Held {
    hold: Hold,
    pub(crate) approval: Option<ApprovalId>,
    then: Then,
}

enum Then {
    Query(QueryJob),
    Execute { portal: String, frame: Bytes },
}

/// A simple query being decided, statement by statement.
struct QueryJob {
    frame: Bytes,
    statements: Vec<Arc<Statement>>,
    permits: Vec<Arc<Permit>>,
}

enum Understood {
    Statements(Vec<Arc<Statement>>),
    /// Try again when the answer is here.
    Later,
    Refused(SqlRefusal),
}

impl PostgresSession {
    pub(crate) fn client_frame(&mut self, input: &mut BytesMut, now: Now) {
        let tag = match wire::peek(input, self.config.message_bytes_max) {
            Ok(Some((tag, whole))) if input.len() >= whole => tag,
            Ok(_) => return,
            Err(error) => return self.malformed(error, now),
        };
        if self.must_wait(tag) {
            return;
        }
        let frame = match wire::take(input, self.config.message_bytes_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => return self.malformed(error, now),
        };
        self.take_frame(frame, now);
    }

    fn take_frame(&mut self, frame: Frame, now: Now) {
        match frontend::decode(&frame) {
            Ok(message) => {
                if !self.message(&frame, message, now) {
                    self.parked = Some(frame);
                }
            }
            Err(error) => self.malformed(error, now),
        }
    }

    /// What a message waited for is here.
    pub(crate) fn resume(&mut self, now: Now) {
        self.waiting = false;
        if let Some(frame) = self.parked.take() {
            self.take_frame(frame, now);
        }
    }

    /// Sends what the newest receipt covers already.
    fn release_recorded(&mut self) {
        match self.receipt {
            Some(receipt) => self.release(&receipt),
            None => self.release_own(),
        }
    }

    /// A simple query, and a good-bye, wait until everything before them is answered.
    fn must_wait(&mut self, tag: u8) -> bool {
        self.waits_idle = matches!(tag, b'Q' | b'X') && !self.idle();
        self.waits_idle
    }

    /// False when the message could not be taken yet.
    fn message(&mut self, frame: &Frame, message: Frontend<'_>, now: Now) -> bool {
        if self.skipping && !matches!(message, Frontend::Sync | Frontend::Terminate) {
            return true;
        }
        match message {
            Frontend::Query(text) => return self.query(frame, text, now),
            Frontend::Parse { name, sql, types } => {
                return self.parse(frame, name, sql, types, now);
            }
            Frontend::Bind(bind) => self.bind(frame, &bind, now),
            Frontend::Describe(named) => self.describe(frame, named, now),
            Frontend::Execute {
                portal,
                rows_max: _,
            } => self.execute(frame, portal, now),
            Frontend::Close(named) => self.close_object(frame, named),
            Frontend::Flush => self.boundary(frame, Vec::new()),
            Frontend::Sync => {
                self.skipping = false;
                self.boundary(frame, vec![Expect::Sync]);
            }
            Frontend::Terminate => {
                self.own_to_server(OwnToServer::Terminate, |out| {
                    wire::message(out, b'X', |_| {});
                });
                self.close(CloseReason::ClientLeft);
            }
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => {
                self.copy_in(frame);
            }
            Frontend::FunctionCall => {
                self.unsupported("function calls by OID are not supported", frame, now);
            }
            Frontend::Password(_) => {
                let text = "weir: no password was asked for";
                self.fatal("08P01", text, CloseReason::Misbehaved);
            }
        }
        true
    }

    fn boundary(&mut self, frame: &Frame, expect: Vec<Expect>) {
        let own = Staged::Own {
            kind: OwnToServer::Boundary,
            bytes: frame.whole.clone(),
            expect,
        };
        self.staged.push_back(own);
        self.release_own();
    }

    /// COPY data belongs to the request that opened it, which is permitted and recorded.
    fn copy_in(&mut self, frame: &Frame) {
        if !self.copying_in {
            // As the server does after a failed COPY: such messages are ignored.
            return;
        }
        if frame.tag != b'd' {
            self.copying_in = false;
        }
        if let Some(permit) = self.copy_permit.clone() {
            let forward = Staged::Forward {
                permit,
                bytes: frame.whole.clone(),
                expect: Vec::new(),
            };
            self.staged.push_back(forward);
            self.release_recorded();
        }
    }

    // ---- understanding

    fn understand(&mut self, text: &str, now: Now) -> Understood {
        if self.catalog_stale && self.transaction == b'I' {
            if !self.idle() {
                return Understood::Refused(SqlRefusal::Unsupported(
                    "a statement behind DDL in one pipeline (send Sync first)",
                ));
            }
            self.ask_catalog();
            return Understood::Later;
        }
        if self.names.stale && self.transaction != b'E' {
            if !self.idle() {
                return Understood::Refused(SqlRefusal::Unsupported(
                    "a statement behind a change of search_path or role in one pipeline \
                     (send Sync first)",
                ));
            }
            self.ask_names();
            return Understood::Later;
        }
        let Some(catalog) = self.catalog.clone() else {
            return Understood::Later;
        };
        let scope = NameScope {
            catalog: &catalog,
            target: &self.config.target,
            database: &self.database,
            search_path: &self.names.search_path,
            role: &self.names.role,
        };
        let outcome = understand(text, &scope, &self.limits);
        let _ = now;
        match outcome {
            Ok(statements) => {
                self.retried_catalog = None;
                if self.names.stale && !statements.iter().all(ends_transaction) {
                    return Understood::Refused(SqlRefusal::Unsupported(
                        "anything but the end of the failed transaction",
                    ));
                }
                if statements
                    .iter()
                    .any(|statement| statement.changes.session_pins)
                {
                    return Understood::Refused(SqlRefusal::Unsupported(
                        "changing a setting that statements are understood by",
                    ));
                }
                Understood::Statements(statements.into_iter().map(Arc::new).collect())
            }
            Err(refusal) if refusal.depends_on_catalog() && self.idle() => {
                let generation = catalog.generation();
                if self.retried_catalog == Some(generation) {
                    self.retried_catalog = None;
                    return Understood::Refused(refusal);
                }
                self.retried_catalog = Some(generation);
                self.ask_catalog();
                Understood::Later
            }
            Err(refusal) => Understood::Refused(refusal),
        }
    }

    fn session_id(&self) -> weir_model::ident::SessionId {
        self.governor
            .as_ref()
            .map_or(weir_model::ident::SessionId(0), |g| g.session())
    }

    // ---- simple query

    fn query(&mut self, frame: &Frame, text: &str, now: Now) -> bool {
        match self.understand(text, now) {
            Understood::Later => false,
            Understood::Refused(refusal) => {
                let (bytes, rule) = reply::refusal(&refusal, self.session_id());
                self.record_refusal(rule, &refusal.to_string(), text, now);
                self.refuse_query(bytes);
                true
            }
            Understood::Statements(statements) => {
                // A new simple query ends the unnamed statement and portal.
                self.prepared.remove("");
                self.portals.remove("");
                let job = QueryJob {
                    frame: frame.whole.clone(),
                    statements,
                    permits: Vec::new(),
                };
                self.go_on(job, now);
                true
            }
        }
    }

    fn record_refusal(&mut self, rule: &'static str, reason: &str, text: &str, now: Now) {
        if let Some(governor) = &mut self.governor {
            let statement = Arc::from(recordable(text));
            let _refused = governor.refuse(rule, reason, statement, now);
        }
    }

    /// Decides the next statements of a simple query; forwards when all are permitted.
    fn go_on(&mut self, mut job: QueryJob, now: Now) {
        while let Some(statement) = job.statements.get(job.permits.len()).cloned() {
            let request = Request {
                intent: Arc::clone(&statement.intent),
                recorded: Recorded::of(&statement.intent),
                statement: Arc::clone(&statement.redacted),
                parameters: String::new(),
                shape: statement.shape,
                bytes_in: statement.text.len() as u64,
            };
            match self.rule(request, now) {
                None => return,
                Some(Ruling::Permit(permit)) => {
                    if let Some(bytes) = self.unmaskable(&statement, &permit, now) {
                        self.not_run(&job, now);
                        return self.refuse_query(bytes);
                    }
                    job.permits.push(permit);
                }
                Some(Ruling::Denial(refusal)) => {
                    let bytes = reply::denial(&refusal.denial, self.session_id());
                    self.not_run(&job, now);
                    return self.refuse_query(bytes);
                }
                Some(Ruling::Hold(hold)) => return self.hold(*hold, Then::Query(job)),
            }
        }
        self.forward_query(job);
    }

    fn rule(&mut self, request: Request, now: Now) -> Option<Ruling> {
        self.governor
            .as_mut()
            .map(|governor| governor.submit(request, now))
    }

    /// What a permit cannot make safe: masked values on their way to where no mask reaches, and
    /// results whose rows cannot be told apart.
    fn unmaskable(&mut self, statement: &Statement, permit: &Permit, now: Now) -> Option<Bytes> {
        let masks = &permit.obligations().masks;
        let diverted = statement
            .diverted
            .iter()
            .any(|column| masks.contains_key(column));
        let copied = matches!(statement.kind, StatementKind::Copy { .. }) && !masks.is_empty();
        if !diverted && !copied {
            return None;
        }
        let reason = if copied {
            "COPY of masked columns is not supported; use SELECT"
        } else {
            "the value of a masked column would go where it cannot be masked"
        };
        let denial = Denial {
            rule: Arc::from("weir:unmaskable"),
            reason: reason.to_owned(),
            access: None,
            advice: None,
        };
        let bytes = reply::denial(&denial, self.session_id());
        self.finish_unrun(permit.seq(), "weir:unmaskable", now);
        Some(bytes)
    }

    fn finish_unrun(&mut self, seq: u32, status: &str, now: Now) {
        if let Some(governor) = &mut self.governor {
            let reply = weir_govern::Reply {
                status: status.to_owned(),
                ..Default::default()
            };
            governor.complete(seq, reply, now);
        }
    }

    fn not_run(&mut self, job: &QueryJob, now: Now) {
        for permit in &job.permits {
            self.finish_unrun(permit.seq(), "not_run", now);
        }
    }

    fn forward_query(&mut self, job: QueryJob) {
        let Some(last) = job.permits.last().cloned() else {
            // An empty text: nothing of the agent's is in it but blanks and comments.
            let own = Staged::Own {
                kind: OwnToServer::Boundary,
                bytes: empty_query(),
                expect: vec![Expect::QueryEnd],
            };
            self.staged.push_back(own);
            return self.release_own();
        };
        let mut expect = Vec::with_capacity(job.permits.len() + 1);
        for (statement, permit) in job.statements.iter().zip(&job.permits) {
            let running = self.running(statement, permit);
            if matches!(running.kind, crate::pipeline::Flow::CopyIn) {
                self.copy_permit = Some(Arc::clone(permit));
            }
            expect.push(Expect::Statement(Box::new(running)));
            self.note_changes(statement);
        }
        expect.push(Expect::QueryEnd);
        self.staged.push_back(Staged::Forward {
            permit: last,
            bytes: job.frame,
            expect,
        });
    }

    fn running(&mut self, statement: &Statement, permit: &Arc<Permit>) -> Running {
        let reach = self.reach(statement, permit);
        self.saw_masks |= !reach.is_clear();
        Running::new(permit.seq(), reach, &statement.kind, statement.changes)
    }

    /// What rows of this statement may hold: for FETCH and EXECUTE, what their cursor or prepared
    /// statement may hold.
    fn reach(&mut self, statement: &Statement, permit: &Arc<Permit>) -> Reach {
        let own = Reach::of(statement, permit.obligations());
        match &statement.kind {
            StatementKind::Declare { name, inner, .. } | StatementKind::Prepare { name, inner } => {
                let reach = Arc::new(Reach::of(inner, permit.obligations()));
                if self.cursors.len() < OBJECTS_MAX {
                    let cursor = Cursor {
                        reach,
                        permit: Arc::clone(permit),
                    };
                    self.cursors.insert(Arc::clone(name), cursor);
                }
                own
            }
            StatementKind::Fetch { name, .. } | StatementKind::Execute { name } => {
                match self.cursors.get(name) {
                    Some(cursor) => Reach::clone(&cursor.reach),
                    None => own,
                }
            }
            _ => own,
        }
    }

    fn note_changes(&mut self, statement: &Statement) {
        self.names.stale |= statement.changes.search_path || statement.changes.role;
    }

    /// An error, and the end of the message; within a transaction the server has to fail as well.
    fn refuse_query(&mut self, bytes: Bytes) {
        if self.transaction == b'T' {
            let mut out = BytesMut::new();
            message(&mut out, b'Q', |out| cstr(out, FAILING));
            let own = Staged::Own {
                kind: OwnToServer::Probe,
                bytes: out.freeze(),
                expect: vec![Expect::HiddenQueryError(bytes)],
            };
            self.staged.push_back(own);
        } else {
            let mut out = BytesMut::from(bytes.as_ref());
            put_ready(&mut out, self.transaction);
            self.staged.push_back(Staged::Local(out.freeze()));
        }
        self.release_own();
    }

    // ---- extended query

    /// An error in order with the server's answers; then everything up to Sync is skipped.
    fn refuse_extended(&mut self, bytes: Bytes) {
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

    fn parse(&mut self, frame: &Frame, name: &str, sql: &str, types: Vec<u32>, now: Now) -> bool {
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

    fn prepare(
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
        let request = Request {
            intent: Arc::clone(&statement.intent),
            recorded: recorded.clone(),
            statement: Arc::clone(&statement.redacted),
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

    fn deny_extended(&mut self, refusal: &Refusal) {
        let bytes = reply::denial(&refusal.denial, self.session_id());
        self.refuse_extended(bytes);
    }

    /// Sends what the newest receipt covers already; the rest waits for the next one.
    fn forward(&mut self, permit: &Arc<Permit>, bytes: Bytes, expect: Vec<Expect>) {
        self.staged.push_back(Staged::Forward {
            permit: Arc::clone(permit),
            bytes,
            expect,
        });
        self.release_recorded();
    }

    fn bind(&mut self, frame: &Frame, bind: &Bind<'_>, now: Now) {
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
            parameters: parameters::json(bind, &prepared.types),
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

    fn describe(&mut self, frame: &Frame, named: Named<'_>, _now: Now) {
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
    fn describe_cursor(&mut self, frame: &Frame, name: &str) {
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

    fn prepared_reach(&mut self, prepared: &Prepared, permit: &Arc<Permit>) -> Reach {
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

    fn execute(&mut self, frame: &Frame, name: &str, now: Now) {
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
            statement: Arc::clone(&statement.redacted),
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

    fn run_portal(&mut self, name: &str, permit: &Arc<Permit>, frame: Bytes, now: Now) {
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
    fn describe_ourselves(
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

    fn close_object(&mut self, frame: &Frame, named: Named<'_>) {
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

    fn unsupported(&mut self, what: &'static str, _frame: &Frame, now: Now) {
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

    // ---- holds

    fn hold(&mut self, hold: Hold, then: Then) {
        let request = HoldRequest {
            seq: hold.seq,
            needed: hold.needed.clone(),
            statement: Arc::clone(&hold.request.statement),
            parameters: hold.request.parameters.clone(),
            database: Arc::clone(&self.database),
            accesses: hold
                .request
                .intent
                .accesses
                .iter()
                .map(|a| format!("{} {}:{}", a.action, a.object.kind, a.object.id()))
                .collect(),
            in_transaction: self.transaction == b'T',
        };
        self.held = Some(Box::new(Held {
            hold,
            approval: None,
            then,
        }));
        self.outputs.push_back(Output::Hold(Box::new(request)));
    }

    pub(crate) fn hold_opened(&mut self, approval: ApprovalId) {
        let Some(held) = &mut self.held else {
            self.outputs.push_back(Output::AbandonHold(approval));
            return;
        };
        held.approval = Some(approval);
        let groups = held.hold.needed.groups.join(", ");
        let text = format!("weir: held for approval {approval} by {groups}; waiting");
        let detail = held.hold.needed.reason.clone();
        self.to_client(OwnToClient::Notice, |out| {
            let notice = ErrorText {
                severity: "NOTICE",
                code: "01000",
                message: &text,
                detail: &detail,
                hint: "",
            };
            put_notice(out, &notice);
        });
    }

    pub(crate) fn hold_failed(&mut self, now: Now) {
        if let Some(held) = self.held.take() {
            let verdict = Verdict::Expired {
                approval: ApprovalId(0),
            };
            self.settle_hold(*held, &verdict, now);
        }
    }

    pub(crate) fn hold_ended(&mut self, verdict: &Verdict, now: Now) {
        if let Some(held) = self.held.take() {
            self.settle_hold(*held, verdict, now);
        }
    }

    fn settle_hold(&mut self, held: Held, verdict: &Verdict, now: Now) {
        let Some(governor) = &mut self.governor else {
            return;
        };
        let ruling = Governor::resolve(governor, held.hold, verdict, now);
        match (ruling, held.then) {
            (Ruling::Permit(permit), Then::Query(mut job)) => {
                job.permits.push(permit);
                self.go_on(job, now);
            }
            (Ruling::Permit(permit), Then::Execute { portal, frame }) => {
                self.run_portal(&portal, &permit, frame, now);
            }
            (Ruling::Denial(refusal), Then::Query(job)) => {
                let bytes = reply::denial(&refusal.denial, self.session_id());
                self.not_run(&job, now);
                self.refuse_query(bytes);
            }
            (Ruling::Denial(refusal), Then::Execute { .. }) => self.deny_extended(&refusal),
            (Ruling::Hold(hold), then) => self.hold(*hold, then),
        }
    }

    pub(crate) fn cancel_asked(&mut self, now: Now) {
        if let Some(held) = self.held.take() {
            let approval = held.approval.unwrap_or(ApprovalId(0));
            if let Some(approval) = held.approval {
                self.outputs.push_back(Output::AbandonHold(approval));
            }
            let Held { hold, then, .. } = *held;
            if let Some(governor) = &mut self.governor {
                let verdict = Verdict::Abandoned { approval };
                let _refused = Governor::resolve(governor, hold, &verdict, now);
            }
            let text = "canceling statement due to user request";
            let bytes = reply::error("57014", text, "weir: it was held for approval");
            match then {
                Then::Query(job) => {
                    self.not_run(&job, now);
                    self.refuse_query(bytes);
                }
                Then::Execute { .. } => self.refuse_extended(bytes),
            }
            return;
        }
        if let Some((pid, secret)) = &self.server_key {
            let mut out = BytesMut::new();
            wire::startup::put_cancel(&mut out, *pid, secret);
            let bytes = weir_govern::ServerBytes::own(OwnToServer::Cancel, out.freeze());
            self.outputs.push_back(Output::SendCancel(bytes));
        }
    }
}

/// A text that was not understood, as far as it may be recorded: secrets cannot be found in it, so
/// what may hold a password is left out.
fn recordable(text: &str) -> String {
    const KEPT: usize = 4096;
    if text.to_ascii_lowercase().contains("password") {
        return format!("[withheld: {} bytes that may hold a password]", text.len());
    }
    let mut end = text.len().min(KEPT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = text.get(..end).unwrap_or_default();
    if end < text.len() {
        format!("{head}…({} bytes)", text.len())
    } else {
        head.to_owned()
    }
}

fn ends_transaction(statement: &Statement) -> bool {
    matches!(
        statement.kind,
        StatementKind::Transaction(
            Transaction::Commit
                | Transaction::Rollback
                | Transaction::RollbackTo
                | Transaction::Release
                | Transaction::Savepoint
        )
    )
}

fn empty_query() -> Bytes {
    let mut out = BytesMut::new();
    message(&mut out, b'Q', |out| cstr(out, ""));
    out.freeze()
}
