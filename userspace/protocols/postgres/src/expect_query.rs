//! Conversation: simple and extended queries, COPY data, holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::{Denial, Mask, Permit};
use weir_govern::{CloseReason, Hold, OwnToServer, Ruling};
use weir_model::ident::ApprovalId;
use weir_model::request::{Object, Request};
use weir_model::time::Now;

use crate::catalog::Catalog;
use crate::objects::Referred;
use crate::pipeline::{Expect, Running, Staged};
use crate::plan::Reach;
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{
    Changes, CopyDirection, CopyFormat, NameScope, SqlRefusal, Statement, StatementKind,
    Transaction, nothing, understand,
};
use crate::wire::backend::put_ready;
use crate::wire::frontend::{self, Frontend};
use crate::wire::{self, Frame, cstr, message};

/// Text of our own that fails at the server, so that its transaction fails as the client is told.
pub(crate) const FAILING: &str = "/* a statement was refused by weir */ refused";

/// A held request and what to do when it is decided.
pub(crate) struct Held {
    pub(crate) hold: Hold,
    pub(crate) approval: Option<ApprovalId>,
    pub(crate) then: Then,
}

pub(crate) enum Then {
    Query(QueryJob),
    Execute {
        portal: String,
        frame: Bytes,
    },
    /// It ran, in a transaction that waits.
    Effect,
}

/// A simple query being decided, statement by statement.
pub(crate) struct QueryJob {
    pub(crate) frame: Bytes,
    pub(crate) text: Arc<str>,
    pub(crate) statements: Vec<Arc<Statement>>,
    pub(crate) permits: Vec<Arc<Permit>>,
}

pub(crate) enum Understood {
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

    pub(crate) fn take_frame(&mut self, frame: Frame, now: Now) {
        match frontend::decode(&frame) {
            Ok(message) => {
                if !self.message(&frame, message, now) {
                    self.parked = Some(frame);
                } else if matches!(frame.tag, b'P' | b'B' | b'D' | b'E' | b'C') {
                    self.batch_open = true;
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
    pub(crate) fn release_recorded(&mut self) {
        match self.receipt {
            Some(receipt) => self.release(&receipt),
            None => self.release_own(),
        }
    }

    /// A simple query, and a good-bye, wait until everything before them is answered; data for COPY
    /// until the server asks for it, or has failed.
    pub(crate) fn must_wait(&mut self, tag: u8) -> bool {
        self.waits_idle = matches!(tag, b'Q' | b'X' | b'F') && !self.idle();
        self.waits_copy = matches!(tag, b'd' | b'c' | b'f') && self.copy_is_ahead();
        if self.waits_idle {
            self.flush_batch();
        }
        self.waits_idle || self.waits_copy
    }

    /// False when the message could not be taken yet.
    pub(crate) fn message(&mut self, frame: &Frame, message: Frontend<'_>, now: Now) -> bool {
        if self.skipping && !matches!(message, Frontend::Sync | Frontend::Terminate) {
            return true;
        }
        match message {
            Frontend::Query(text) => return self.query(frame, text, now),
            Frontend::Parse { name, sql, types } => {
                return self.parse(frame, name, sql, types, now);
            }
            Frontend::Bind(bind) => return self.bind(frame, &bind, now),
            Frontend::Describe(named) => return self.describe(frame, named, now),
            Frontend::Execute {
                portal,
                rows_max: _,
            } => self.execute(frame, portal, now),
            Frontend::Close(named) => self.close_object(frame, named),
            // The server takes no notice of them while it waits for COPY data.
            Frontend::Flush | Frontend::Sync if self.copying_in => {}
            Frontend::Flush => self.boundary(frame, Vec::new()),
            Frontend::Sync => {
                self.skipping = false;
                self.batch_open = false;
                self.batches_sent += 1;
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
            Frontend::FunctionCall { oid } => return self.function_call(frame, oid, now),
            Frontend::Password(_) => {
                let text = "weir: no password was asked for";
                self.fatal("08P01", text, CloseReason::Misbehaved);
            }
        }
        true
    }

    pub(crate) fn boundary(&mut self, frame: &Frame, expect: Vec<Expect>) {
        let own = Staged::Own {
            kind: OwnToServer::Boundary,
            bytes: frame.whole.clone(),
            expect,
        };
        self.staged.push_back(own);
        self.release_own();
    }

    /// COPY data belongs to the request that opened it, which is permitted and recorded.
    pub(crate) fn copy_in(&mut self, frame: &Frame) {
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

    pub(crate) fn understand(&mut self, text: &str) -> Understood {
        if self.asks_between() {
            return Understood::Later;
        }
        if (self.names.stale || self.catalog_stale) && !self.only_transactions(text) {
            if self.transaction == b'E' && self.idle() {
                return Understood::Refused(SqlRefusal::TransactionFailed);
            }
            if self.idle() {
                self.ask();
            } else {
                self.drain();
            }
            return Understood::Later;
        }
        if !self.names.stale
            && !self.must_switch()
            && let Some(known) = self.understood.get(text)
        {
            return Understood::Statements(known.clone());
        }
        let Some(catalog) = self.catalog.clone() else {
            return Understood::Later;
        };
        let retried = self.retried_text.as_deref() == Some(text);
        let started_us = (self.config.clock)();
        let outcome = self.understand_with(text, &catalog, retried);
        let took_us = (self.config.clock)().saturating_sub(started_us);
        if let Some(governor) = &mut self.governor {
            governor.decoded_in(took_us);
        }
        match outcome {
            Ok(statements) => {
                if retried {
                    self.retried_text = None;
                }
                if statements
                    .iter()
                    .any(|statement| statement.changes.session_pins)
                {
                    return Understood::Refused(SqlRefusal::Pinned);
                }
                if self.breaks_read_only(&statements) {
                    return Understood::Refused(SqlRefusal::ReadOnly);
                }
                let statements: Vec<_> = statements.into_iter().map(Arc::new).collect();
                self.remember(text, &statements);
                Understood::Statements(statements)
            }
            Err(refusal)
                if refusal.depends_on_catalog() && !retried && self.transaction != b'E' =>
            {
                if self.idle() {
                    self.retried_text = Some(text.into());
                    self.catalog_stale = true;
                    self.ask();
                } else {
                    self.drain();
                }
                Understood::Later
            }
            Err(refusal) => {
                self.retried_text = None;
                Understood::Refused(refusal)
            }
        }
    }

    pub(crate) fn understand_with(
        &self,
        text: &str,
        catalog: &Catalog,
        lenient: bool,
    ) -> Result<Vec<Statement>, SqlRefusal> {
        understand(text, &self.scope(catalog, lenient), &self.limits)
    }

    pub(crate) fn scope<'a>(&'a self, catalog: &'a Catalog, lenient: bool) -> NameScope<'a> {
        NameScope {
            catalog,
            target: &self.config.target,
            database: &self.database,
            search_path: &self.names.search_path,
            role: &self.names.role,
            lenient,
            path_settled: !self.names_touched,
        }
    }

    /// The statement that a text without one is prepared as.
    pub(crate) fn nothing(&self, text: &str) -> Option<Arc<Statement>> {
        let scope = self.scope(self.catalog.as_ref()?, false);
        nothing(text, &scope, &self.limits).ok().map(Arc::new)
    }

    /// Whether a text only begins and ends transactions, for which no name has to be known. A question
    /// of ours behind BEGIN would come before SET TRANSACTION, which the server refuses then.
    fn only_transactions(&self, text: &str) -> bool {
        const BYTES_MAX: usize = 4096;
        let Some(catalog) = self.catalog.as_ref().filter(|_| text.len() <= BYTES_MAX) else {
            return false;
        };
        self.understand_with(text, catalog, false)
            .is_ok_and(|statements| {
                statements
                    .iter()
                    .all(|one| matches!(one.kind, StatementKind::Transaction(_)))
            })
    }

    /// Keeps what a short text means until catalog or names change.
    fn remember(&mut self, text: &str, statements: &[Arc<Statement>]) {
        const TEXTS_MAX: usize = 256;
        const TEXT_BYTES_MAX: usize = 8192;
        if self.names.stale || text.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.understood.len() >= TEXTS_MAX {
            self.understood.clear();
        }
        self.understood.insert(text.into(), statements.to_vec());
    }

    pub(crate) fn session_id(&self) -> weir_model::ident::SessionId {
        self.governor
            .as_ref()
            .map_or(weir_model::ident::SessionId(0), |g| g.session())
    }

    // ---- simple query

    pub(crate) fn query(&mut self, frame: &Frame, text: &str, now: Now) -> bool {
        match self.understand(text) {
            Understood::Later => false,
            Understood::Refused(refusal) => {
                self.refuse_text(&refusal, text, None, now);
                true
            }
            Understood::Statements(statements) => {
                match self.names_known(&statements, now) {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(bytes) => {
                        let reason = "a name of the session's own objects cannot be used";
                        self.record_refusal("weir:unknown-name", reason, text, now);
                        self.refuse_query(bytes);
                        return true;
                    }
                }
                // A new simple query ends the unnamed statement and portal.
                self.prepared.remove("");
                self.open.remove("");
                let job = QueryJob {
                    frame: frame.whole.clone(),
                    text: Arc::from(text),
                    statements,
                    permits: Vec::new(),
                };
                self.go_on(job, now);
                true
            }
        }
    }

    pub(crate) fn record_refusal(
        &mut self,
        rule: &'static str,
        reason: &str,
        text: &str,
        now: Now,
    ) {
        if let Some(governor) = &mut self.governor {
            let statement = Arc::from(recordable(text));
            let _refused = governor.refuse(rule, reason, statement, now);
        }
    }

    /// Decides the next statements of a simple query; forwards when all are permitted.
    pub(crate) fn go_on(&mut self, mut job: QueryJob, now: Now) {
        while let Some(statement) = job.statements.get(job.permits.len()).cloned() {
            let earlier = job.statements.get(..job.permits.len()).unwrap_or(&[]);
            let inner = self.executed(&statement, earlier);
            let request = self.request(&statement, inner.as_deref());
            match self.rule(request, now) {
                None => return,
                Some(Ruling::Permit(permit)) => {
                    let inner = inner.as_deref();
                    if let Some(bytes) = self.unmaskable(&statement, inner, &permit, now) {
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
                Some(Ruling::Hold(hold)) => return self.hold(*hold, Then::Query(job), now),
            }
        }
        self.forward_query(job);
    }

    /// What a reviewer permits goes through the same checks as what policy permits.
    pub(crate) fn take_permit(&mut self, mut job: QueryJob, permit: Arc<Permit>, now: Now) {
        let Some(statement) = job.statements.get(job.permits.len()).cloned() else {
            return;
        };
        let earlier = job.statements.get(..job.permits.len()).unwrap_or(&[]);
        let inner = self.executed(&statement, earlier);
        if let Some(bytes) = self.unmaskable(&statement, inner.as_deref(), &permit, now) {
            self.not_run(&job, now);
            return self.refuse_query(bytes);
        }
        job.permits.push(permit);
        self.go_on(job, now);
    }

    /// The statement for the record: literals compared with (or assigned to) columns that this
    /// principal gets masked become keyed digests.
    pub(crate) fn recorded_text(&mut self, statement: &Statement) -> Arc<str> {
        let Some(governor) = &mut self.governor else {
            return Arc::clone(&statement.redacted);
        };
        let text = &*statement.redacted;
        let mut out = String::new();
        let mut at = 0;
        for (range, column) in &statement.compared_literals {
            let (Some(before), Some(literal)) =
                (text.get(at..range.start), text.get(range.clone()))
            else {
                continue;
            };
            if governor.masks(column) {
                let digest = self
                    .config
                    .mask_key
                    .digest_text(&column.id(), literal.as_bytes());
                out.push_str(before);
                out.push('\'');
                out.push_str(&digest);
                out.push('\'');
                at = range.end;
            }
        }
        if at == 0 {
            return Arc::clone(&statement.redacted);
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Arc::from(out)
    }

    /// Parameters (from 0) that are as secret as a masked column, and that column's id.
    pub(crate) fn secret_parameters(&mut self, statement: &Statement) -> Vec<(usize, String)> {
        let Some(governor) = &mut self.governor else {
            return Vec::new();
        };
        statement
            .compared_parameters
            .iter()
            .filter(|(_, column)| governor.masks(column))
            .map(|(number, column)| (usize::from(*number).saturating_sub(1), column.id()))
            .collect()
    }

    pub(crate) fn rule(&mut self, request: Request, now: Now) -> Option<Ruling> {
        self.governor
            .as_mut()
            .map(|governor| governor.submit(request, now))
    }

    /// What a permit cannot make safe: masked values on their way to where no mask reaches, and
    /// results whose rows cannot be told apart.
    pub(crate) fn unmaskable(
        &mut self,
        statement: &Statement,
        inner: Option<&Statement>,
        permit: &Permit,
        now: Now,
    ) -> Option<Bytes> {
        let masks = &permit.obligations().masks;
        let diverted = std::iter::once(statement)
            .chain(inner)
            .flat_map(|statement| &statement.diverted)
            .any(|column| masks.contains_key(column));
        let fills = matches!(
            statement.kind,
            StatementKind::FillByExecute { .. } | StatementKind::Explain { fills: true, .. }
        );
        let unread = matches!(
            statement.kind,
            StatementKind::Copy {
                direction: CopyDirection::Out,
                format: CopyFormat::Other
            }
        ) && !(masks.is_empty() && permit.obligations().detect.is_none());
        if !(diverted || unread || fills && may_hold(inner, masks)) {
            return None;
        }
        let reason = "the value of a masked column would go where it cannot be masked";
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

    pub(crate) fn finish_unrun(&mut self, seq: u32, status: &str, now: Now) {
        if let Some(governor) = &mut self.governor {
            let reply = weir_govern::Reply {
                status: status.to_owned(),
                ..Default::default()
            };
            governor.complete(seq, reply, now);
        }
    }

    pub(crate) fn not_run(&mut self, job: &QueryJob, now: Now) {
        for permit in &job.permits {
            self.finish_unrun(permit.seq(), "not_run", now);
        }
    }

    pub(crate) fn forward_query(&mut self, job: QueryJob) {
        let Some(last) = job.permits.last().cloned() else {
            // An empty text: nothing of the agent's is in it but blanks and comments.
            let own = Staged::Own {
                kind: OwnToServer::Boundary,
                bytes: empty_query(),
                expect: vec![Expect::QueryEnd],
            };
            self.batches_sent += 1;
            self.staged.push_back(own);
            return self.release_own();
        };
        let mut expect = Vec::with_capacity(job.permits.len() + 1);
        for (statement, permit) in job.statements.iter().zip(&job.permits) {
            let referred = self.refer(statement);
            let mut running = self.running(statement, permit, referred.as_ref());
            running.undo = self.apply(statement, permit, &job.text);
            if matches!(running.kind, crate::pipeline::Flow::CopyIn) {
                self.copy_permit = Some(Arc::clone(permit));
            }
            expect.push(Expect::Statement(Box::new(running)));
        }
        expect.push(Expect::QueryEnd);
        self.batches_sent += 1;
        self.staged.push_back(Staged::Forward {
            permit: last,
            bytes: job.frame,
            expect,
        });
    }

    pub(crate) fn running(
        &mut self,
        statement: &Arc<Statement>,
        permit: &Arc<Permit>,
        referred: Option<&Referred>,
    ) -> Running {
        let reach = reach(statement, permit, referred);
        self.unseen_in_transaction |= reach.runs_unseen();
        self.worked |= !matches!(statement.kind, StatementKind::Transaction(_));
        let mut changes = statement.changes;
        if let Some(referred) = referred {
            let more = referred.changes();
            changes.search_path |= more.search_path;
            changes.names_path |= more.names_path;
            changes.role |= more.role;
            changes.catalog |= more.catalog;
        }
        self.names.read_only &= !changes.resets;
        self.note_changes(&statement.kind, changes);
        let mut running = Running::new(permit.seq(), reach, &statement.kind, changes);
        if let Some(governor) = &mut self.governor {
            running.spending = governor.spending(permit.seq());
        }
        running
    }

    /// What has to be asked again before the next decision.
    fn note_changes(&mut self, kind: &StatementKind, changes: Changes) {
        let ends = matches!(kind, StatementKind::Transaction(_));
        self.path_moved |= changes.names_path || changes.resets || changes.role;
        if ends && !self.names_touched {
            // It undoes nothing of the session's names.
        } else if changes.search_path || changes.role {
            self.names.stale = true;
            self.touch_names();
        }
        // What is made may come first on the path: a temporary schema, or the user's own.
        self.names.stale |= changes.catalog;
        self.catalog_stale |= changes.catalog;
        self.catalog_shared |= changes.catalog && !changes.temporary;
        if changes.catalog && !changes.temporary {
            self.redefines = Some(self.batches_sent + 1);
        }
        let undoes = matches!(
            kind,
            StatementKind::Transaction(Transaction::RollbackTo | Transaction::Rollback)
        );
        self.catalog_stale |= undoes && self.catalog_live;
    }

    /// The end of the transaction will change names: texts that hold one mean something else now.
    fn touch_names(&mut self) {
        self.names_touched_in = self.batches_sent + 1;
        if !self.names_touched {
            self.names_touched = true;
            self.understood.clear();
        }
    }

    /// An error, and the end of the message; within a transaction the server has to fail as well.
    pub(crate) fn refuse_query(&mut self, bytes: Bytes) {
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
}

/// Whether a masked value may be in the rows of that statement.
fn may_hold(inner: Option<&Statement>, masks: &BTreeMap<Object, Mask>) -> bool {
    let columns = inner.and_then(|inner| inner.columns.as_ref());
    columns.map_or(!masks.is_empty(), |columns| {
        let mut sources = columns.iter().flat_map(|column| &column.sources);
        sources.any(|source| masks.contains_key(source))
    })
}

/// What rows of a statement may hold: of FETCH and EXECUTE, what their cursor or prepared statement
/// may hold.
pub(crate) fn reach(
    statement: &Arc<Statement>,
    permit: &Permit,
    referred: Option<&Referred>,
) -> Reach {
    match (referred, &statement.kind) {
        (Some(Referred::Cursor(cursor)), _) => cursor.reach.clone(),
        (Some(Referred::Statement(prepared)), StatementKind::Execute { .. }) => {
            // The permit is of both.
            Reach::of(&prepared.statement, permit.obligations())
        }
        // A plan, and the number of rows that a table was filled with.
        (
            Some(Referred::Statement(_)),
            StatementKind::Explain { .. } | StatementKind::FillByExecute { .. },
        ) => Reach::of(statement, permit.obligations()),
        (Some(Referred::Statement(prepared)), _) => {
            Reach::of(&prepared.statement, prepared.permit.obligations())
        }
        (None, StatementKind::Execute { .. } | StatementKind::Fetch { .. }) => {
            Reach::unknown(permit.obligations())
        }
        (None, _) => Reach::of(statement, permit.obligations()),
    }
}

/// A text that was not understood, as far as it may be recorded: secrets cannot be found in it, so
/// what may hold a password is left out.
pub(crate) fn recordable(text: &str) -> String {
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

fn empty_query() -> Bytes {
    let mut out = BytesMut::new();
    message(&mut out, b'Q', |out| cstr(out, ""));
    out.freeze()
}
