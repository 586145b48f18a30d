//! What is staged for the server until it is recorded, what is expected back, and the replies.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "kinds of statements that need no special care are many"
)]

use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use weir_decide::{Keep, Permit, Spending};
use weir_govern::{ClientBytes, CloseReason, Output, OwnToClient, OwnToServer, Reply, ServerBytes};
use weir_mask::{MaskPlan, Masked, Sample};
use weir_model::time::Now;
use weir_spool::Receipt;

use crate::copy_out::CopyOut;
use crate::doubt::Doubt;
use crate::effect::Asked;
use crate::objects::{Prepared, Undo};
use crate::parameters::TypesCell;
use crate::plan::{FieldsCell, Masking, Place, Reach, masking};
use crate::probe::Probe;
use crate::session::{PostgresSession, State};
use crate::understand::{Changes, CopyDirection, StatementKind, is_utf8};
use crate::wire::backend::{self, Field, put_ready};
use crate::wire::{self, Frame};

/// The largest message that is taken from a server: its own limit is 1 GiB.
const SERVER_MESSAGE_BYTES_MAX: usize = 1 << 30;

/// On its way to the server.
pub(crate) enum Staged {
    /// The agent's bytes; they wait for the receipt of their permit.
    Forward {
        permit: Arc<Permit>,
        bytes: Bytes,
        expect: Vec<Expect>,
    },
    /// A message of our own, in order with the rest.
    Own {
        kind: OwnToServer,
        bytes: Bytes,
        expect: Vec<Expect>,
    },
    /// An answer of our own to the client, in order with the server's.
    Local(Bytes),
}

/// What a request in flight needs when its reply comes.
pub(crate) struct Running {
    pub(crate) seq: u32,
    pub(crate) reach: Reach,
    pub(crate) kind: Flow,
    pub(crate) changes: Changes,
    /// What it changed of the session's names, to be taken back when it fails.
    pub(crate) undo: Option<Undo>,
    /// What the server said of its result, and the formats the client wants it in.
    pub(crate) fields: FieldsCell,
    pub(crate) formats: Vec<i16>,
    /// Where the plan of an earlier execution is kept.
    pub(crate) prepared: Option<Arc<Prepared>>,
    /// Made at the first row.
    pub(crate) masking: Option<Arc<Masking>>,
    pub(crate) rows: u64,
    pub(crate) bytes_out: u64,
    pub(crate) masked_values: u64,
    pub(crate) sample: Sample,
    pub(crate) first_byte: bool,
    /// COPY out: where it stands.
    pub(crate) copy: Option<CopyOut>,
    /// The client was told with this SQLSTATE that the result ends; the rest is thrown away.
    pub(crate) cut_off: Option<&'static str>,
    /// Microseconds that masking took so far.
    pub(crate) mask_us: u32,
    /// What its rows are charged to.
    pub(crate) spending: Spending,
}

/// How a statement's data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flow {
    Rows,
    CopyIn,
    CopyOut,
}

impl Running {
    pub(crate) fn new(seq: u32, reach: Reach, kind: &StatementKind, changes: Changes) -> Self {
        let copy = match kind {
            StatementKind::Copy { format, .. } => Some(CopyOut::new(format.clone())),
            _ => None,
        };
        let kind = match kind {
            StatementKind::Copy {
                direction: CopyDirection::In,
                ..
            } => Flow::CopyIn,
            StatementKind::Copy {
                direction: CopyDirection::Out,
                ..
            } => Flow::CopyOut,
            _ => Flow::Rows,
        };
        Self {
            seq,
            reach,
            kind,
            changes,
            undo: None,
            fields: FieldsCell::default(),
            formats: Vec::new(),
            prepared: None,
            masking: None,
            rows: 0,
            bytes_out: 0,
            masked_values: 0,
            sample: Sample::default(),
            first_byte: false,
            copy,
            cut_off: None,
            mask_us: 0,
            spending: Spending::default(),
        }
    }
}

impl Running {
    /// What is recorded of its rows.
    pub(crate) fn keep(&self, rows_head: usize) -> Keep {
        self.reach.obligations.keep.joined(Keep {
            head: u32::try_from(rows_head).unwrap_or(u32::MAX),
            ..Keep::default()
        })
    }

    /// A row is on its way to the client.
    pub(crate) fn sent(&mut self, masked: &Masked) {
        self.rows += 1;
        self.masked_values += masked.masked_values();
        self.bytes_out += masked.len() as u64;
        self.sample.sent(masked.bytes());
    }
}

/// What a Describe is for.
pub(crate) struct Described {
    /// Nothing in its reach is masked.
    pub(crate) clear: bool,
    /// Code may run of which nothing is known: planning calls functions on constants.
    pub(crate) unseen: bool,
    pub(crate) portal: Option<FieldsCell>,
    pub(crate) statement: Option<FieldsCell>,
    /// Where types of parameters are kept; of statements only.
    pub(crate) parameters: Option<TypesCell>,
}

impl Described {
    /// Of a statement, or of a portal of it. The result of an EXECUTE or FETCH is kept for its
    /// portal only: the next one may run something else.
    pub(crate) fn of(prepared: &Prepared, portal: Option<&FieldsCell>) -> Self {
        let other = matches!(
            prepared.statement.kind,
            StatementKind::Execute { .. } | StatementKind::Fetch { .. }
        );
        Self {
            clear: !other && prepared.is_clear(),
            unseen: prepared.statement.unseen,
            portal: portal.map(Arc::clone),
            statement: (!other).then(|| Arc::clone(&prepared.fields)),
            parameters: portal.is_none().then(|| prepared.types.cell()),
        }
    }
}

/// One answer that the server owes.
pub(crate) enum Expect {
    /// One statement of a simple query; ends with CommandComplete, EmptyQueryResponse or an error.
    Statement(Box<Running>),
    /// The end of a simple query: ReadyForQuery.
    QueryEnd,
    ParseDone {
        undo: Undo,
        clear: bool,
        unseen: bool,
    },
    BindDone {
        undo: Undo,
        clear: bool,
        unseen: bool,
    },
    CloseDone(Undo),
    /// Describe of a statement or portal; hidden when it is ours.
    Describe {
        hidden: bool,
        what: Described,
    },
    Execute(Box<Running>),
    Sync,
    /// An answer of our own; nothing comes from the server.
    Local(Bytes),
    /// A failing message of ours; its error is hidden.
    HiddenError,
    /// The same in a simple query, whose end is followed by our own answer.
    HiddenQueryError(Bytes),
    /// Questions of our own.
    Probe(Box<Probe>),
    /// A text that the server may refuse; otherwise it is refused here.
    Doubt(Box<Doubt>),
    /// Questions of our own around a write whose effect is approved.
    Effect(Box<Asked>),
}

impl PostgresSession {
    /// Sends everything that the receipt covers, in order.
    pub(crate) fn release(&mut self, receipt: &Receipt) {
        while let Some(staged) = self.staged.front() {
            if let Staged::Forward { permit, .. } = staged
                && !receipt.covers(permit.session(), permit.seq())
            {
                return;
            }
            let Some(staged) = self.staged.pop_front() else {
                return;
            };
            match staged {
                Staged::Forward {
                    permit,
                    bytes,
                    expect,
                } => {
                    match ServerBytes::forward(&permit, receipt, bytes) {
                        Ok(bytes) => self.outputs.push_back(Output::ToServer(bytes)),
                        Err(_unproven) => {
                            let text = "weir: a request could not be proven recorded";
                            return self.fatal("XX000", text, CloseReason::Internal);
                        }
                    }
                    self.expected.extend(expect);
                }
                Staged::Own {
                    kind,
                    bytes,
                    expect,
                } => {
                    self.outputs
                        .push_back(Output::ToServer(ServerBytes::own(kind, bytes)));
                    self.expected.extend(expect);
                }
                Staged::Local(bytes) => self.expected.push_back(Expect::Local(bytes)),
            }
        }
        self.answer_local();
    }

    /// Sends what does not wait for a receipt.
    pub(crate) fn release_own(&mut self) {
        while let Some(Staged::Own { .. } | Staged::Local(_)) = self.staged.front() {
            match self.staged.pop_front() {
                Some(Staged::Own {
                    kind,
                    bytes,
                    expect,
                }) => {
                    self.outputs
                        .push_back(Output::ToServer(ServerBytes::own(kind, bytes)));
                    self.expected.extend(expect);
                }
                Some(Staged::Local(bytes)) => self.expected.push_back(Expect::Local(bytes)),
                Some(Staged::Forward { .. }) | None => return,
            }
        }
        self.answer_local();
    }

    /// Answers of our own that are at the front go out now.
    fn answer_local(&mut self) {
        while let Some(Expect::Local(_)) = self.expected.front() {
            if let Some(Expect::Local(bytes)) = self.expected.pop_front() {
                self.pass_to_client(OwnToClient::Denial, bytes);
            }
        }
    }

    /// Takes the server's messages. Runs of messages that pass unchanged leave as one piece.
    pub(crate) fn server_frames(&mut self, input: &mut BytesMut, now: Now) {
        let mut run = 0;
        loop {
            if matches!(self.state, State::Closed) {
                return input.clear();
            }
            let rest = input.get(run..).unwrap_or(&[]);
            let whole = match wire::peek(rest, SERVER_MESSAGE_BYTES_MAX) {
                Ok(Some((_, whole))) if rest.len() >= whole => whole,
                Ok(_) => break,
                Err(_) => {
                    let text = "weir: the server's reply cannot be decoded";
                    return self.fatal("08P01", text, CloseReason::UpstreamFailed);
                }
            };
            let tag = rest.first().copied().unwrap_or(0);
            if tag == b'D'
                && let Some(values) = self.passing_row(rest.get(..whole).unwrap_or(&[]))
            {
                if !values {
                    return;
                }
                run += whole;
                continue;
            }
            self.flush_run(input, &mut run);
            let frame = Frame {
                tag,
                whole: input.split_to(whole).freeze(),
            };
            self.server_frame(&frame, now);
            self.answer_local();
        }
        self.flush_run(input, &mut run);
        let took_us = self.masking_took();
        if let Some(Expect::Statement(running) | Expect::Execute(running)) =
            self.expected.front_mut()
        {
            running.mask_us = running.mask_us.saturating_add(took_us);
        }
        self.drained(now);
    }

    fn flush_run(&mut self, input: &mut BytesMut, run: &mut usize) {
        if *run > 0 {
            let bytes = input.split_to(*run).freeze();
            *run = 0;
            // Only rows of a plan that passes everything are in a run.
            if let Some(masked) = MaskPlan::default().pass(bytes) {
                if let Some(Expect::Statement(running) | Expect::Execute(running)) =
                    self.expected.front_mut()
                {
                    running.sample.sent(masked.bytes());
                }
                self.outputs
                    .push_back(Output::ToClient(ClientBytes::masked(masked)));
            }
        }
    }

    /// A row that passes as it is: counted, sampled. `None` when it needs the slow path.
    fn passing_row(&mut self, frame: &[u8]) -> Option<bool> {
        let rows_head = self.config.rows_head;
        let (Expect::Statement(running) | Expect::Execute(running)) = self.expected.front_mut()?
        else {
            return None;
        };
        let passes = running.masking.as_ref()?.plan.is_pass() && running.kind == Flow::Rows;
        if !passes || running.sample.wants(running.keep(rows_head), running.rows) {
            return None;
        }
        if running.cut_off.is_some() || running.is_full(frame.len()) {
            return None;
        }
        running.rows += 1;
        running.bytes_out += frame.len() as u64;
        Some(true)
    }

    fn server_frame(&mut self, frame: &Frame, now: Now) {
        self.first_byte(now);
        if self.probe_frame(frame, now) || self.effect_frame(frame, now) {
            return;
        }
        match frame.tag {
            b'D' | b'd' | b'c' | b'T' if self.is_cut_off() => {}
            b'C' | b's' if self.is_cut_off() => self.end_cut_off(now),
            b'S' => self.status(frame),
            b'N' => self.notice(frame),
            b'A' => self.notification(frame),
            b'E' => self.server_error(frame, now),
            b'Z' => self.ready(frame),
            b'T' => self.description(frame),
            b'n' | b't' => self.describe_part(frame),
            b'D' => self.row(frame),
            b'C' | b'I' | b's' => self.complete(frame, now),
            b'V' => self.function_result(frame, now),
            b'1' if matches!(self.expected.front(), Some(Expect::Doubt(_))) => {
                self.doubt_accepted(now);
            }
            b'1' => self.simple_answer(frame, |expect| matches!(expect, Expect::ParseDone { .. })),
            b'2' => self.simple_answer(frame, |expect| matches!(expect, Expect::BindDone { .. })),
            b'3' => self.simple_answer(frame, |expect| matches!(expect, Expect::CloseDone(_))),
            b'G' | b'H' | b'W' => self.copy_begins(frame),
            b'd' | b'c' => self.copy_data(frame),
            _ => self.confused(),
        }
    }

    /// The server answers what was not asked: nothing that follows can be trusted.
    pub(crate) fn confused(&mut self) {
        let text = "weir: the server's reply does not fit what was asked";
        self.fatal("08P01", text, CloseReason::UpstreamFailed);
    }

    fn first_byte(&mut self, now: Now) {
        if let Some(Expect::Statement(running) | Expect::Execute(running)) =
            self.expected.front_mut()
            && !running.first_byte
        {
            running.first_byte = true;
            let seq = running.seq;
            if let Some(governor) = &mut self.governor {
                governor.first_byte(seq, now);
            }
        }
    }

    fn simple_answer(&mut self, frame: &Frame, fits: impl Fn(&Expect) -> bool) {
        if self.expected.front().is_some_and(fits) {
            self.expected.pop_front();
            self.pass_to_client(OwnToClient::Status, frame.whole.clone());
        } else {
            self.confused();
        }
    }

    fn status(&mut self, frame: &Frame) {
        let Ok((name, value)) = backend::parameter_status(frame) else {
            return self.confused();
        };
        let broken = match name {
            "standard_conforming_strings" => value != "on",
            "client_encoding" => !is_utf8(value),
            _ => false,
        };
        if broken {
            let text = "weir: a setting that statements are understood by was changed";
            return self.fatal("25000", text, CloseReason::Misbehaved);
        }
        if matches!(self.state, State::Query) {
            let bytes = match self.shown_status(name, value) {
                Some(shown) => shown,
                None => frame.whole.clone(),
            };
            self.pass_to_client(OwnToClient::Status, bytes);
        } else {
            self.greeting.push((name.to_owned(), value.to_owned()));
        }
    }

    fn ready(&mut self, frame: &Frame) {
        let Some(status) = frame.body().first().copied() else {
            return self.confused();
        };
        match self.expected.pop_front() {
            Some(Expect::Sync | Expect::QueryEnd) => {
                self.batches_done += 1;
                if self.effect_ran(status) || self.fails_transaction(status) {
                    return;
                }
                self.batch_ended(status);
                self.pass_to_client(OwnToClient::Status, frame.whole.clone());
            }
            Some(Expect::HiddenQueryError(answer)) => {
                self.transaction = status;
                self.pass_to_client(OwnToClient::Denial, answer);
                self.tell_client(OwnToClient::Status, |out| put_ready(out, status));
            }
            // The server had failed before it took notice of a Sync that came early.
            None if self.early_syncs > 0 => {
                self.early_syncs -= 1;
                self.batch_ended(status);
                self.pass_to_client(OwnToClient::Status, frame.whole.clone());
            }
            Some(_) | None => self.confused(),
        }
        if self.idle() {
            self.waits_idle = false;
        }
    }

    pub(crate) fn batch_ended(&mut self, status: u8) {
        self.transaction = status;
        if status == b'I' {
            if self.redefines.is_some() {
                self.config.definitions.changed();
                self.redefines.take_if(|batch| *batch <= self.batches_done);
            }
            self.unseen_in_transaction = false;
            self.worked = false;
            self.names_touched &= self.names_touched_in > self.batches_done;
            self.path_moved &= self.names_touched;
            // What the transaction made is there for all now, or for nobody.
            let own = std::mem::take(&mut self.catalog_in_transaction);
            self.catalog_stale |= self.catalog_live && (self.catalog_shared || own);
            self.transaction_ended();
        }
    }

    /// RowDescription: of a Describe, or of a simple query's statement.
    fn description(&mut self, frame: &Frame) {
        let Ok(mut fields) = backend::row_description(frame) else {
            return self.confused();
        };
        match self.expected.pop_front() {
            Some(Expect::Describe { hidden, what }) => {
                // The formats of a description are of one portal; the plan has its own.
                fields.iter_mut().for_each(|field| field.format = 0);
                // Described anew means described alike, else the server refuses to run it.
                for cell in [what.portal, what.statement].into_iter().flatten() {
                    let _known = cell.set(fields.clone());
                }
                if !hidden {
                    self.pass_to_client(OwnToClient::Description, frame.whole.clone());
                }
            }
            Some(Expect::Statement(mut running)) if running.kind == Flow::Rows => {
                running.fields = FieldsCell::from(OnceLock::from(fields));
                running.masking = None;
                self.expected.push_front(Expect::Statement(running));
                self.pass_to_client(OwnToClient::Description, frame.whole.clone());
            }
            Some(_) | None => self.confused(),
        }
    }

    /// The plan of what runs at the front; `None` when the server did not describe it.
    fn plan_front(&mut self) -> Option<()> {
        let mut front = self.expected.pop_front()?;
        let mut known = None;
        if let Expect::Statement(running) | Expect::Execute(running) = &mut front {
            running.masking = self.plan_of(running);
            known = running.masking.as_ref().map(|_| ());
        }
        self.expected.push_front(front);
        known
    }

    fn plan_of(&mut self, running: &Running) -> Option<Arc<Masking>> {
        let fields = running.fields.get()?;
        let obligations = &running.reach.obligations;
        let kept = running.prepared.as_ref().map(|prepared| &prepared.plan);
        if let Some((same, formats, plan)) = kept.and_then(|kept| kept.get())
            && Arc::ptr_eq(same, obligations)
            && *formats == running.formats
        {
            return Some(Arc::clone(plan));
        }
        let plan = Arc::new(self.plan(&running.reach, fields, &running.formats));
        if plan.other {
            self.doubt_catalog();
        }
        if let Some(kept) = kept {
            let first = (
                Arc::clone(obligations),
                running.formats.clone(),
                Arc::clone(&plan),
            );
            let _kept = kept.set(first);
        }
        Some(plan)
    }

    pub(crate) fn plan(&self, reach: &Reach, fields: &[Field], formats: &[i16]) -> Masking {
        let Some(catalog) = &self.catalog else {
            return Masking::default();
        };
        let place = Place {
            catalog,
            target: &self.config.target,
            database: &self.database,
        };
        masking(reach, fields, formats, &place)
    }

    /// NoData and ParameterDescription belong to a Describe.
    fn describe_part(&mut self, frame: &Frame) {
        let Some(Expect::Describe { hidden, what }) = self.expected.front() else {
            return self.confused();
        };
        if frame.tag == b't' {
            let Ok(types) = backend::parameter_types(frame) else {
                return self.confused();
            };
            if let Some(cell) = &what.parameters {
                let _known = cell.set(types);
            }
        }
        if !hidden {
            self.pass_to_client(OwnToClient::Description, frame.whole.clone());
        }
        if frame.tag == b'n' {
            self.expected.pop_front();
        }
    }

    fn row(&mut self, frame: &Frame) {
        let planned = match self.expected.front() {
            // A row within a COPY fits no plan: that one is for the columns of its lines.
            Some(Expect::Statement(running) | Expect::Execute(running))
                if running.kind == Flow::Rows =>
            {
                running.masking.is_some()
            }
            Some(_) | None => return self.confused(),
        };
        if !planned && self.plan_front().is_none() {
            return self.confused();
        }
        if !planned && self.is_another_result() {
            return self.result_changed();
        }
        let rows_head = self.config.rows_head;
        let (key, mut reuse) = (
            self.config.mask_key.clone(),
            std::mem::take(&mut self.client_out),
        );
        let patterns = self.config.patterns.clone();
        let Some(Expect::Statement(running) | Expect::Execute(running)) = self.expected.front_mut()
        else {
            return self.confused();
        };
        let (Some(masking), false) = (running.masking.as_ref(), running.is_full(frame.whole.len()))
        else {
            let over = running.masking.is_some();
            return if over {
                self.over_limit()
            } else {
                self.confused()
            };
        };
        if self.masks_since_us.is_none() {
            self.masks_since_us = Some((self.config.clock)());
        }
        reuse.clear();
        let mut masker = masking
            .plan
            .rows(&key, reuse)
            .with_patterns(patterns.as_deref());
        masker.frame(&[b'D', 0, 0, 0, 0, 0, 0]);
        let count = backend::data_row(frame, |index, value| {
            masker.cell(index, value, put_cell);
        });
        let Ok(count) = count else {
            return self.confused();
        };
        let length = u32::try_from(masker.len().saturating_sub(1)).unwrap_or(u32::MAX);
        masker.patch_u32(1, length);
        masker.patch_u16(5, u16::try_from(count).unwrap_or(u16::MAX));
        let masked = masker.finish();
        let keep = running.keep(rows_head);
        if running.sample.wants(keep, running.rows) {
            let row = Frame {
                tag: b'D',
                whole: masked.bytes().clone(),
            };
            let mut cells = Vec::with_capacity(count);
            if backend::data_row(&row, |_, value| cells.push(value)).is_ok() {
                running.sample.row(keep, running.rows, cells.into_iter());
            }
        }
        running.sent(&masked);
        self.outputs
            .push_back(Output::ToClient(ClientBytes::masked(masked)));
    }

    /// CommandComplete, EmptyQueryResponse, PortalSuspended.
    fn complete(&mut self, frame: &Frame, now: Now) {
        // Another transaction may begin in the same batch.
        if self.redefines.is_some() && frame.body().starts_with(b"COMMIT") {
            self.config.definitions.changed();
        }
        self.effect_tag(frame);
        match self.expected.pop_front() {
            Some(Expect::Statement(running) | Expect::Execute(running)) => {
                if running.kind == Flow::CopyIn {
                    self.early_syncs = 0;
                }
                self.finish_running(*running, "ok", now);
                self.effect_ran_in_batch(false);
            }
            // An empty text has no statement of its own.
            Some(end @ Expect::QueryEnd) if frame.tag == b'I' => self.expected.push_front(end),
            Some(_) | None => return self.confused(),
        }
        self.pass_to_client(OwnToClient::Status, frame.whole.clone());
    }

    /// FunctionCallResponse: only where nothing is masked was it asked for.
    fn function_result(&mut self, frame: &Frame, now: Now) {
        match self.expected.pop_front() {
            Some(Expect::Statement(mut running)) if running.reach.is_clear() => {
                running.bytes_out += frame.whole.len() as u64;
                running.sample.sent(&frame.whole);
                self.finish_running(*running, "ok", now);
            }
            Some(_) | None => return self.confused(),
        }
        if let Some(masked) = MaskPlan::default().pass(frame.whole.clone()) {
            self.outputs
                .push_back(Output::ToClient(ClientBytes::masked(masked)));
        }
    }

    /// Microseconds since the first row that was masked in this turn. The clock is read twice a turn, not
    /// twice a row.
    fn masking_took(&mut self) -> u32 {
        let Some(since_us) = self.masks_since_us.take() else {
            return 0;
        };
        u32::try_from((self.config.clock)().saturating_sub(since_us)).unwrap_or(u32::MAX)
    }

    pub(crate) fn finish_running(&mut self, running: Running, status: &str, now: Now) {
        let mask_us = running.mask_us.saturating_add(self.masking_took());
        if running.changes.catalog {
            self.catalog_stale = true;
        }
        let (response_masked, truncated, digest) = running.sample.finish(running.rows);
        let reply = Reply {
            status: status.to_owned(),
            rows: running.rows,
            bytes_in: 0,
            bytes_out: running.bytes_out,
            response_masked,
            truncated,
            digest,
            mask_us,
            masked_values: running.masked_values,
            mask_rules: running
                .masking
                .map(|masking| Arc::clone(&masking.rules))
                .unwrap_or_default(),
        };
        if let Some(governor) = &mut self.governor {
            governor.complete(running.seq, reply, now);
        }
    }
}

/// One cell of a DataRow.
pub(crate) fn put_cell(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(bytes) => {
            let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}
