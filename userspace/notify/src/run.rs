//! Follows the store of approvals and tells everybody who is to be told.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::time::Now;
use weir_state::{ApprovalRow, ApprovalState, State};

use crate::config::Notifier;
use crate::deliver::{DeliveryError, Line};
use crate::notice::{Event, Notice, key, settled};
use crate::queue::Queue;
use crate::sent::Sent;

/// Another process may have decided, or a request may have expired.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What became of a request is of interest for this long.
const DECIDED_S: i64 = 3600;
/// A worker looks at its queue at least this often.
const IDLE: Duration = Duration::from_secs(60);

/// Whether a session is this node's: nodes that share a store do not all tell of it.
pub type Ours = Arc<dyn Fn(SessionId) -> bool + Send + Sync>;

/// `weir_notifications_total{notifier, outcome}`
#[derive(Clone, Debug)]
pub struct NotifyMetrics(IntCounterVec);

impl NotifyMetrics {
    /// # Errors
    /// The name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "weir_notifications_total",
            "Notices to reviewers, by notifier and outcome: sent, again, refused, given_up, full",
        );
        let counter = IntCounterVec::new(options, &["notifier", "outcome"])?;
        registry.register(Box::new(counter.clone()))?;
        Ok(Self(counter))
    }

    fn count(&self, notifier: &str, outcome: &str) {
        self.0.with_label_values(&[notifier, outcome]).inc();
    }
}

/// Tells until it is dropped.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the notifiers need of the node.
pub struct About {
    pub node: String,
    /// Origin of the console; empty without one.
    pub console: String,
    pub ours: Ours,
    pub now: fn() -> Now,
}

struct Desk {
    notifier: Notifier,
    line: Line,
    queue: Mutex<Queue>,
    more: Notify,
}

struct Shared {
    desks: Vec<Desk>,
    sent: Mutex<Sent>,
    state: State,
    about: About,
    metrics: NotifyMetrics,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes what tells, once it is polled. `file` is made when it is not there; its folder has to be closed to others.
///
/// # Errors
/// A notifier that cannot work, by its name, or a file that cannot be opened.
pub fn start(
    notifiers: Vec<Notifier>,
    file: &Path,
    state: State,
    about: About,
    metrics: NotifyMetrics,
) -> Result<Running, String> {
    let sent = Sent::open(file, (about.now)().unix_s());
    let sent = sent.map_err(|error| format!("{}: {error}", file.display()))?;
    let mut desks = Vec::with_capacity(notifiers.len());
    for notifier in notifiers {
        let line = Line::open(&notifier);
        let line = line.map_err(|text| format!("notifier {}: {text}", notifier.name))?;
        desks.push(Desk {
            notifier,
            line,
            queue: Mutex::default(),
            more: Notify::new(),
        });
    }
    let shared = Arc::new(Shared {
        desks,
        sent: Mutex::new(sent),
        state,
        about,
        metrics,
    });
    Ok(Box::pin(async move {
        let mut workers = JoinSet::new();
        for at in 0..shared.desks.len() {
            workers.spawn(work(Arc::clone(&shared), at));
        }
        follow(shared).await;
    }))
}

async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.state.watch();
    loop {
        changes.mark_unchanged();
        match shared.state.list().await {
            Ok(rows) => rows.iter().for_each(|row| shared.consider(row)),
            Err(error) => tracing::warn!(%error, "notifiers cannot read the approvals"),
        }
        // Either way the store is asked again; the sender lives as long as the state.
        let _changed = timeout(LOOK_EVERY, changes.changed()).await;
    }
}

impl Shared {
    /// Queues what is new about a request, for every notifier that is to hear of it.
    fn consider(&self, row: &ApprovalRow) {
        let now = (self.about.now)();
        let id = row.id.to_string();
        for desk in &self.desks {
            let name = &desk.notifier.name;
            let groups = &desk.notifier.groups;
            if !groups.is_empty() && !row.new.groups.iter().any(|group| groups.contains(group)) {
                continue;
            }
            let announced = locked(&self.sent).has(name, &key(&id, Event::Waiting));
            let (event, until_s) = if row.state == ApprovalState::Pending {
                let alive = row.new.expires_us > now.wall_us;
                if announced || !alive || !(self.about.ours)(row.new.session) {
                    continue;
                }
                (Event::Waiting, row.new.expires_us / 1_000_000)
            } else if announced && settled(row.state) {
                (Event::Decided, now.unix_s() + DECIDED_S)
            } else {
                continue;
            };
            self.queue(desk, row, event, until_s);
        }
    }

    fn queue(&self, desk: &Desk, row: &ApprovalRow, event: Event, until_s: i64) {
        let name = &desk.notifier.name;
        let key = key(&row.id.to_string(), event);
        if locked(&self.sent).has(name, &key) || locked(&desk.queue).has(&key) {
            return;
        }
        let mut notice = Notice::new(row, event, &self.about.node, &self.about.console);
        if !desk.notifier.statement {
            notice = notice.without_statement();
        }
        if locked(&desk.queue).push(notice, until_s, (self.about.now)().mono_us) {
            desk.more.notify_one();
        } else {
            self.metrics.count(name, "full");
        }
    }

    /// What was decided meanwhile needs no reviewer any more. Unknown counts as waiting.
    async fn still_waits(&self, id: &str) -> bool {
        let Some(id) = ApprovalId::parse(id) else {
            return false;
        };
        match self.state.get(id).await {
            Ok(row) => row.is_some_and(|row| row.state == ApprovalState::Pending),
            Err(_) => true,
        }
    }

    fn done(&self, name: &str, key: &str, reference: Option<crate::deliver::Reference>) {
        let now_s = (self.about.now)().unix_s();
        if let Err(error) = locked(&self.sent).done(name, key, reference, now_s) {
            tracing::warn!(%error, "what was told cannot be written down");
        }
        if let Some(desk) = self.desks.iter().find(|desk| desk.notifier.name == name) {
            locked(&desk.queue).landed();
        }
    }
}

async fn work(shared: Arc<Shared>, at: usize) {
    let Some(desk) = shared.desks.get(at) else {
        return;
    };
    let name = desk.notifier.name.as_str();
    loop {
        let mono_us = (shared.about.now)().mono_us;
        let (due, gap) = {
            let mut queue = locked(&desk.queue);
            (queue.take_due(mono_us), queue.gap(mono_us))
        };
        let Some(job) = due else {
            // Either more has come, or the next one is due.
            let _woken = timeout(gap.unwrap_or(IDLE), desk.more.notified()).await;
            continue;
        };
        if job.notice.event == Event::Waiting && !shared.still_waits(&job.notice.id).await {
            locked(&desk.queue).landed();
            continue;
        }
        let before = before(&shared, name, &job.notice);
        let now_s = (shared.about.now)().unix_s();
        match desk.line.send(&job.notice, before.as_ref(), now_s).await {
            Ok(reference) => {
                shared.metrics.count(name, "sent");
                shared.done(name, &job.notice.key, reference);
            }
            Err(DeliveryError::Never(error)) => {
                tracing::error!(notifier = name, key = job.notice.key, %error, "a notice was refused");
                shared.metrics.count(name, "refused");
                shared.done(name, &job.notice.key, None);
            }
            Err(DeliveryError::Again(error, put_off)) => {
                tracing::warn!(notifier = name, attempt = job.attempts, %error, "a notice waits");
                shared.metrics.count(name, "again");
                let now = (shared.about.now)();
                let times = (now.mono_us, now.unix_s());
                let over = locked(&desk.queue).again(job, put_off, times);
                if let Some(job) = over {
                    shared.metrics.count(name, "given_up");
                    shared.done(name, &job.notice.key, None);
                }
            }
        }
    }
}

/// The message that announced the same request.
fn before(shared: &Shared, name: &str, notice: &Notice) -> Option<crate::deliver::Reference> {
    if notice.event == Event::Waiting {
        return None;
    }
    let announced = key(&notice.id, Event::Waiting);
    locked(&shared.sent).reference(name, &announced).cloned()
}
