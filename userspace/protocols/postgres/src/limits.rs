//! A result that is longer than policy allows, or another one than was decided on: cut off with an
//! error, and the session goes on.
//!
//! Budgets count over requests; rows and bytes of them end a result in the same way, time ends the
//! session. The server is not told of rows that are too many, since a cancel could hit the next statement: what still comes of the
//! result is thrown away. In a transaction the server is made to fail, as the client was told it did.

use bytes::Bytes;
use weir_govern::{CloseReason, OwnToClient, OwnToServer};
use weir_model::time::Now;

use crate::expect_query::FAILING;
use crate::pipeline::{Expect, Running};
use crate::reply;
use crate::session::PostgresSession;
use crate::wire::{cstr, message};

/// SQLSTATE `program_limit_exceeded`.
pub(crate) const CODE: &str = "54000";
const TEXT: &str = "weir: policy allows no more of this result";
/// SQLSTATE `feature_not_supported`, as of a server whose cached plan fits no longer.
const CHANGED_CODE: &str = "0A000";
const CHANGED: &str =
    "weir: the server describes another result than was understood, so it is not shown";
const CHANGED_HINT: &str =
    "The statement has run. If what it reads was changed meanwhile, run it again.";

/// Why a result ends early.
struct Cut {
    code: &'static str,
    text: &'static str,
    hint: String,
}

impl Running {
    /// What to do about a result that is full.
    fn full_hint(&self) -> String {
        let obligations = &self.reach.obligations;
        let limited = obligations.rows_max.is_some_and(|max| self.rows >= max)
            || obligations.bytes_max.is_some();
        if limited || self.spending.is_free() {
            return "Ask for less: a smaller LIMIT, or fewer columns.".to_owned();
        }
        let rules = self.spending.rules();
        format!("What may be read in a session or a time is used up (rule {rules}).")
    }

    /// Whether another row of that many bytes is more than policy allows; if not, it is charged.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        let obligations = &self.reach.obligations;
        let after = self.bytes_out.saturating_add(bytes as u64);
        obligations.rows_max.is_some_and(|max| self.rows >= max)
            || obligations.bytes_max.is_some_and(|max| after > max)
            || !self.spending.take(1, bytes as u64)
    }
}

impl PostgresSession {
    /// Whether the client was told already that the result at the front ends here.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(
            self.expected.front(),
            Some(Expect::Statement(running) | Expect::Execute(running)) if running.cut_off.is_some()
        )
    }

    /// A limit of policy is reached.
    pub(crate) fn over_limit(&mut self) {
        let hint = match self.expected.front() {
            Some(Expect::Statement(running) | Expect::Execute(running)) => running.full_hint(),
            Some(_) | None => return self.confused(),
        };
        self.cut_off(Cut {
            code: CODE,
            text: TEXT,
            hint,
        });
    }

    /// Whether the server described another result than the statement at the front was understood to have.
    pub(crate) fn is_another_result(&self) -> bool {
        matches!(
            self.expected.front(),
            Some(Expect::Statement(running) | Expect::Execute(running))
                if running.masking.as_ref().is_some_and(|masking| masking.other)
        )
    }

    /// The server described another result than the statement was understood to have: somebody who does
    /// not come through Weir has changed what it reads, and no mask is known to fit.
    pub(crate) fn result_changed(&mut self) {
        self.cut_off(Cut {
            code: CHANGED_CODE,
            text: CHANGED,
            hint: CHANGED_HINT.to_owned(),
        });
    }

    /// With more behind it in the same message or pipeline the server would run what the client is told
    /// is skipped: then the session ends.
    fn cut_off(&mut self, cut: Cut) {
        let last = match self.expected.get(1) {
            Some(Expect::QueryEnd | Expect::Sync) => self.expected.len() == 2,
            Some(_) => false,
            None => true,
        };
        let Some(Expect::Statement(running) | Expect::Execute(running)) = self.expected.front_mut()
        else {
            return self.confused();
        };
        if !last || !self.staged.is_empty() {
            return self.fatal(cut.code, cut.text, CloseReason::LimitReached);
        }
        running.cut_off = Some(cut.code);
        let error = reply::error(cut.code, cut.text, &cut.hint);
        self.pass_to_client(OwnToClient::Denial, error);
        self.fail_transaction = true;
        self.skipping |= self.expected.len() == 1;
    }

    /// A budget of time is used up: what runs is cancelled, and the session ends, since the cancel may
    /// come late and would hit the next statement.
    pub(crate) fn time_is_up(&mut self, now: Now) {
        let due = self.governor.as_ref().and_then(|it| it.time_is_up_us());
        if due.is_none_or(|due_us| due_us > now.mono_us) {
            return;
        }
        self.cancel_at_server();
        let text = "weir: the time that policy allows is used up";
        self.fatal(CODE, text, CloseReason::LimitReached);
    }

    /// The server has ended what was cut off.
    pub(crate) fn end_cut_off(&mut self, now: Now) {
        if let Some(Expect::Statement(running) | Expect::Execute(running)) =
            self.expected.pop_front()
        {
            let status = running.cut_off.unwrap_or(CODE);
            self.finish_running(*running, status, now);
            self.effect_ran_in_batch(false);
        }
    }

    /// Behind the end of a batch that was cut off: whether the server has to fail as well first.
    pub(crate) fn fails_transaction(&mut self, status: u8) -> bool {
        if !std::mem::take(&mut self.fail_transaction) || status != b'T' {
            return false;
        }
        self.own_to_server(OwnToServer::Probe, |out| {
            message(out, b'Q', |out| cstr(out, FAILING));
        });
        self.expected
            .push_front(Expect::HiddenQueryError(Bytes::new()));
        true
    }
}
