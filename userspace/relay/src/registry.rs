//! Live flows: who can be listed, cancelled and killed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use weir_govern::{CancelKey, Event};
use weir_model::ident::{ApprovalId, Principal, SessionId};

use crate::subject::Subject;

/// One live flow as `weir flows` shows it.
#[derive(Clone, Debug)]
pub struct FlowRow {
    pub session: SessionId,
    pub workload: Arc<str>,
    pub target: Arc<str>,
    pub client_addr: String,
    pub server_addr: String,
    pub pid: u32,
    pub comm: String,
    pub owner: Owner,
    pub opened_us: i64,
}

/// Whose flow it is; empty until that is known.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// `oid`.
    pub principal: String,
    pub tenant: String,
    pub application: String,
    pub on_behalf_of: String,
    pub cgroup: u64,
    /// The workload's own principal, where the client presented a token of another one.
    pub attested: Option<Box<Owner>>,
}

impl Owner {
    fn of(principal: &Principal, cgroup: u64) -> Self {
        let person = principal.on_behalf_of.as_deref().unwrap_or_default();
        Self {
            principal: principal.oid.to_string(),
            tenant: principal.tenant.to_string(),
            application: principal.app.to_string(),
            on_behalf_of: person.to_owned(),
            cgroup,
            attested: None,
        }
    }

    /// It, and the workload's own where there are two.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.attested.as_deref())
    }
}

/// What a kill request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillOutcome {
    Asked,
    NoSuchFlow,
}

struct Live {
    row: FlowRow,
    mailbox: mpsc::Sender<Event>,
    /// Was told that there is a successor.
    asked_to_move: bool,
    /// Grants whose end it will be told of.
    grants: Vec<ApprovalId>,
}

/// Shared by all workers of a node; locks are held for a map operation only.
#[derive(Default)]
pub(crate) struct Registry {
    flows: Mutex<HashMap<SessionId, Live>>,
    cancels: Mutex<HashMap<CancelKey, SessionId>>,
    /// Who a workload was at its newest flow; as many as there are workloads.
    subjects: Mutex<HashMap<Arc<str>, Subject>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while holding the lock cannot leave a map half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub(crate) fn open(&self, row: FlowRow, mailbox: mpsc::Sender<Event>) {
        let live = Live {
            row,
            mailbox,
            asked_to_move: false,
            grants: Vec::new(),
        };
        locked(&self.flows).insert(live.row.session, live);
    }

    /// Where to tell the flow that this grant is over; `None` when somebody does so already, or the
    /// flow is gone.
    pub(crate) fn follow(
        &self,
        session: SessionId,
        grant: ApprovalId,
    ) -> Option<mpsc::Sender<Event>> {
        let mut flows = locked(&self.flows);
        let live = flows.get_mut(&session)?;
        if live.grants.contains(&grant) {
            return None;
        }
        live.grants.push(grant);
        Some(live.mailbox.clone())
    }

    pub(crate) fn identified(&self, session: SessionId, subject: &Subject, cgroup: u64) {
        if let Some(live) = locked(&self.flows).get_mut(&session) {
            let attested = subject.attested.as_ref();
            live.row.owner = Owner {
                attested: attested.map(|own| Box::new(Owner::of(own, cgroup))),
                ..Owner::of(&subject.principal, cgroup)
            };
            let workload = Arc::clone(&live.row.workload);
            locked(&self.subjects).insert(workload, subject.clone());
        }
    }

    pub(crate) fn seen_last(&self, workload: &str) -> Option<Subject> {
        locked(&self.subjects).get(workload).cloned()
    }

    pub(crate) fn close(&self, session: SessionId, cancel: Option<&CancelKey>) {
        locked(&self.flows).remove(&session);
        if let Some(key) = cancel {
            locked(&self.cancels).remove(key);
        }
    }

    pub(crate) fn register_cancel(&self, key: CancelKey, session: SessionId) {
        locked(&self.cancels).insert(key, session);
    }

    /// Passes a cancel request on. Only a flow of the same workload may ask: the key alone is too
    /// short (4 bytes in protocol 3.0) to stand for that.
    pub(crate) fn ask_cancel(&self, key: &CancelKey, workload: &str) -> bool {
        let Some(session) = locked(&self.cancels).get(key).copied() else {
            return false;
        };
        let flows = locked(&self.flows);
        match flows.get(&session) {
            Some(live) if &*live.row.workload == workload => {
                live.mailbox.try_send(Event::CancelAsked).is_ok()
            }
            Some(_) | None => false,
        }
    }

    pub(crate) fn rows(&self) -> Vec<FlowRow> {
        let mut rows: Vec<FlowRow> = locked(&self.flows)
            .values()
            .map(|live| live.row.clone())
            .collect();
        rows.sort_by_key(|row| row.opened_us);
        rows
    }

    pub(crate) fn kill(&self, session: SessionId, text: &'static str) -> KillOutcome {
        match locked(&self.flows).get(&session) {
            Some(live) => {
                // A full mailbox means that it is being told to stop already.
                let _told = live.mailbox.try_send(Event::Kill {
                    code: "57P01",
                    text,
                });
                KillOutcome::Asked
            }
            None => KillOutcome::NoSuchFlow,
        }
    }

    /// Ends every flow that `chosen` names and says how many there were.
    pub(crate) fn kill_where(
        &self,
        text: &'static str,
        chosen: impl Fn(&FlowRow) -> bool,
    ) -> usize {
        let mut ended = 0;
        for live in locked(&self.flows).values() {
            if chosen(&live.row) {
                ended += 1;
                let _told = live.mailbox.try_send(Event::Kill {
                    code: "57P01",
                    text,
                });
            }
        }
        ended
    }

    /// Asks every flow once to move to the successor.
    pub(crate) fn move_all(&self) {
        for live in locked(&self.flows).values_mut() {
            if !live.asked_to_move {
                live.asked_to_move = live.mailbox.try_send(Event::Move).is_ok();
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        locked(&self.flows).len()
    }

    pub(crate) fn kill_all(&self, text: &'static str) {
        for live in locked(&self.flows).values() {
            let _told = live.mailbox.try_send(Event::Kill {
                code: "57P01",
                text,
            });
        }
    }
}
