//! `set_config($1, …)`: which setting is meant is decided on when the parameter is bound.

use std::sync::Arc;

use weir_govern::Ruling;
use weir_model::request::{Access, Intent, Object, Recorded, Request};
use weir_model::time::Now;

use crate::objects::Prepared;
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{SqlRefusal, Statement, is_pinned};
use crate::wire::frontend::Bind;

/// Types of a parameter whose bytes are the name: not said, `text`, `varchar`.
const TEXTS: [u32; 3] = [0, 25, 1043];

/// Whether the parameters that name settings are declared as text, if at all.
pub(crate) fn are_texts(statement: &Statement, types: &[u32]) -> bool {
    let declared = |number: &u16| {
        let at = usize::from(*number).checked_sub(1);
        at.and_then(|at| types.get(at)).copied().unwrap_or(0)
    };
    let mut numbers = statement.setting_parameters.iter();
    numbers.all(|number| TEXTS.contains(&declared(number)))
}

impl PostgresSession {
    /// False when a setting that is named now may not be set; the client was told so then.
    pub(crate) fn may_set(&mut self, prepared: &Prepared, bind: &Bind<'_>, now: Now) -> bool {
        let numbers = &prepared.statement.setting_parameters;
        if numbers.is_empty() {
            return true;
        }
        let mut accesses: Vec<Access> = prepared.statement.intent.accesses.to_vec();
        for number in numbers {
            let at = usize::from(*number).wrapping_sub(1);
            // NULL and what is not there are for the server to complain of.
            let Some(Some(value)) = bind.parameters.get(at) else {
                continue;
            };
            let name = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
            if let Some(refusal) = self.never_set(&name) {
                let (bytes, rule) = reply::refusal(&refusal, self.session_id());
                self.record_refusal(rule, &refusal.to_string(), &prepared.text, now);
                self.refuse_extended(bytes);
                return false;
            }
            accesses.push(self.sets(&name));
        }
        let intent = Intent::new(accesses, prepared.statement.intent.context.to_vec());
        let intent = Arc::new(intent);
        let request = Request {
            recorded: Recorded::of(&intent),
            intent,
            statement: Arc::clone(&prepared.shown),
            parameters: String::new(),
            shape: prepared.statement.shape,
            decode_us: 0,
            bytes_in: 0,
        };
        match (self.governor.as_mut()).map(|governor| governor.permit_unheld(&request, now)) {
            Some(Ruling::Permit(_)) => return true,
            Some(Ruling::Denial(refusal)) => self.deny_extended(&refusal),
            Some(Ruling::Hold(_)) | None => {
                let text = "weir: setting that has to be approved: write its name in the statement";
                self.refuse_extended(reply::error(reply::REFUSED, text, ""));
            }
        }
        false
    }

    fn never_set(&self, name: &str) -> Option<SqlRefusal> {
        let read_only = matches!(
            name,
            "transaction_read_only" | "default_transaction_read_only"
        );
        if is_pinned(name) {
            return Some(SqlRefusal::Pinned);
        }
        (read_only && self.only_reads).then_some(SqlRefusal::ReadOnly)
    }

    fn sets(&self, name: &str) -> Access {
        let (action, kind, name) = match name {
            "role" | "session_authorization" => ("setRole", "Role", "?"),
            name => ("set", "Setting", name),
        };
        let path = [&self.config.target, &self.database].map(Arc::clone);
        Access {
            action,
            object: Object {
                kind,
                path: path.into_iter().chain([Arc::from(name)]).collect(),
            },
        }
    }
}
