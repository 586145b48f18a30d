//! The server's errors, and what they leave undone.

use weir_govern::CloseReason;
use weir_model::time::Now;

use crate::objects::Undo;
use crate::pipeline::{Expect, Staged};
use crate::session::PostgresSession;
use crate::wire::{Frame, backend};

impl PostgresSession {
    pub(crate) fn server_error(&mut self, frame: &Frame, now: Now) {
        let Ok(fields) = backend::error_fields(frame) else {
            return self.confused();
        };
        let code = fields
            .iter()
            .find(|(code, _)| *code == b'C')
            .map_or_else(|| "XX000".to_owned(), |(_, text)| text.clone());
        let fatal = fields.iter().any(|(field, text)| {
            matches!(field, b'V' | b'S') && matches!(text.as_str(), "FATAL" | "PANIC")
        });
        match self.expected.front() {
            Some(Expect::HiddenError | Expect::HiddenQueryError(_)) => {
                // Stays at the front until ReadyForQuery, or goes with the discarded rest.
                if matches!(self.expected.front(), Some(Expect::HiddenError)) {
                    self.discard_until_sync("not_run", now);
                }
                return;
            }
            Some(Expect::Probe(_)) => {
                let text = "weir: the session's search_path and catalog cannot be read";
                return self.fatal("XX000", text, CloseReason::UpstreamFailed);
            }
            Some(_) | None => {}
        }
        if !self.is_cut_off() {
            self.pass_error(frame, &fields);
        }
        if fatal && self.expected.is_empty() {
            return;
        }
        match self.expected.front() {
            Some(Expect::Statement(_)) => self.discard_message(&code, now),
            Some(Expect::Sync | Expect::QueryEnd) | None => {}
            Some(_) => self.discard_until_sync(&code, now),
        }
        self.copying_in = false;
    }

    /// A statement of a simple query failed: the rest of the message is not run.
    fn discard_message(&mut self, code: &str, now: Now) {
        let mut undone = Vec::new();
        let mut status = code;
        while let Some(Expect::Statement(_)) = self.expected.front() {
            if let Some(Expect::Statement(mut running)) = self.expected.pop_front() {
                undone.extend(running.undo.take());
                self.finish_running(*running, status, now);
                status = "not_run";
            }
        }
        self.take_back(undone);
    }

    /// The server skips everything up to the next Sync; so do we, what was not sent yet included.
    fn discard_until_sync(&mut self, code: &str, now: Now) {
        let mut undone = Vec::new();
        let mut status = code;
        let mut synced = false;
        while let Some(expect) = self.expected.pop_front() {
            if matches!(expect, Expect::Sync) {
                self.expected.push_front(expect);
                synced = true;
                break;
            }
            self.discard(expect, status, &mut undone, now);
            status = "not_run";
        }
        self.effect_ran_in_batch(true);
        while !synced && let Some(staged) = self.staged.pop_front() {
            let expect = match staged {
                Staged::Own { ref expect, .. }
                    if expect.iter().any(|expect| matches!(expect, Expect::Sync)) =>
                {
                    self.staged.push_front(staged);
                    synced = true;
                    break;
                }
                Staged::Own { expect, .. } | Staged::Forward { expect, .. } => expect,
                // A refusal behind an error is skipped like what it refuses.
                Staged::Local(_) => Vec::new(),
            };
            for expect in expect {
                self.discard(expect, status, &mut undone, now);
                status = "not_run";
            }
        }
        if !synced {
            self.skipping = true;
            self.skip_held(now);
        }
        self.take_back(undone);
        self.copying_in = false;
    }

    fn discard(&mut self, expect: Expect, status: &str, undone: &mut Vec<Undo>, now: Now) {
        match expect {
            Expect::Execute(mut running) | Expect::Statement(mut running) => {
                undone.extend(running.undo.take());
                self.finish_running(*running, status, now);
            }
            Expect::Doubt(doubt) => self.finish_unrun(doubt.seq, status, now),
            Expect::ParseDone { undo, .. }
            | Expect::BindDone { undo, .. }
            | Expect::CloseDone(undo) => undone.push(undo),
            // A refusal behind an error is skipped like what it refuses.
            Expect::Local(_) => {}
            Expect::QueryEnd
            | Expect::Describe { .. }
            | Expect::Sync
            | Expect::HiddenError
            | Expect::HiddenQueryError(_)
            | Expect::Probe(_) => {}
            Expect::Effect(_) => self.effect_skipped(now),
        }
    }

    /// The newest change first, so that each finds what it had changed.
    fn take_back(&mut self, undone: Vec<Undo>) {
        for undo in undone.into_iter().rev() {
            self.undo(undo);
        }
    }
}
