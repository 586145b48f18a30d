//! Catalogs of protected databases, read over a connection of Weir's own and shared by flows.
//!
//! What was read of the server's own objects is kept for a minute; what a change asks for anew is the
//! rest.

mod reader;
mod scram_only;

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant, timeout};
use weir_govern::CatalogNeeded;
use weir_model::addr::NetnsCookie;
use weir_postgres::catalog::{Catalog, CatalogError, CatalogRows, Definitions};

use self::reader::{Idle, What};
use crate::credentials::BackendLogin;
use crate::node::{Node, Target};

const READ_TIME_MAX: Duration = Duration::from_secs(20);
/// A catalog is read again after a time between these, in case it was changed by somebody who does
/// not come through Weir: the longer reading takes, the more seldom.
const AGE_MIN: Duration = Duration::from_secs(10);
const AGE_MAX: Duration = Duration::from_secs(60);
/// At most one part in so many of the time is spent on reading.
const READING_SHARE: u32 = 50;
/// Databases per target that are kept.
const DATABASES_MAX: usize = 64;

/// Target, database, user: what a catalog shows depends on who looks.
type Key = (Arc<str>, Arc<str>, String);

struct Cached {
    catalog: Arc<Catalog>,
    /// When its reading began, and how many changes of definitions had been seen then.
    read_at: Instant,
    definitions: u64,
    age_max: Duration,
    /// When the server's own objects were read, too.
    whole_at: Instant,
}

impl Cached {
    /// The server's own objects, which seldom change, have to be read again.
    fn is_partly_old(&self) -> bool {
        self.whole_at.elapsed() > AGE_MAX
    }

    /// Who knows that something changed has to see what was read after that: another catalog than its
    /// own may have been read before.
    fn serves(&self, needed: CatalogNeeded, asked_at: Instant) -> bool {
        let recent = self.read_at.elapsed() < self.age_max;
        match needed {
            CatalogNeeded::Recent => recent,
            CatalogNeeded::Since(definitions) => recent && self.definitions >= definitions,
            CatalogNeeded::New => self.read_at > asked_at,
        }
    }
}

/// One per (target, database, user); the lock makes readers wait for one another.
#[derive(Default)]
struct Slot {
    cached: Mutex<Option<Cached>>,
    /// The connection of the last reading, while it is likely that it is needed again.
    reader: Idle,
    /// It is being read ahead of its end.
    renewing: AtomicBool,
}

#[derive(Default)]
pub(crate) struct CatalogCache {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    /// By target.
    definitions: std::sync::Mutex<HashMap<Arc<str>, Definitions>>,
}

/// Which catalog, read from where.
pub(crate) struct CatalogQuestion {
    pub(crate) target: Arc<Target>,
    pub(crate) database: Arc<str>,
    pub(crate) login: BackendLogin,
    pub(crate) netns: NetnsCookie,
    pub(crate) server: SocketAddr,
    pub(crate) needed: CatalogNeeded,
}

/// Why there is none; the first is for the agent, the second for the log.
pub(crate) struct NoCatalog {
    pub(crate) text: &'static str,
    pub(crate) detail: String,
}

impl CatalogCache {
    /// What sessions of that target count changes with.
    pub(crate) fn definitions(&self, target: &Arc<str>) -> Definitions {
        let mut all = self
            .definitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.entry(Arc::clone(target)).or_default().clone()
    }

    async fn slot(&self, key: Key) -> Arc<Slot> {
        let mut slots = self.slots.lock().await;
        if slots.len() >= DATABASES_MAX && !slots.contains_key(&key) {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }

    /// What was read of a target as this user, by database. One that is being read is left out.
    pub(crate) async fn known(&self, target: &str, user: &str) -> Vec<(Arc<str>, Arc<Catalog>)> {
        let slots = self.slots.lock().await;
        let mut known = Vec::new();
        for ((of, database, reader), slot) in &*slots {
            if &**of == target
                && reader == user
                && let Ok(slot) = slot.cached.try_lock()
                && let Some(cached) = slot.as_ref()
            {
                known.push((Arc::clone(database), Arc::clone(&cached.catalog)));
            }
        }
        known.sort_by(|a, b| a.0.cmp(&b.0));
        known
    }
}

/// The cached catalog when it is fresh enough, else a new reading. One that is half as old as it may
/// become is read anew beside, so that sessions seldom wait.
pub(crate) async fn catalog(
    node: Arc<Node>,
    question: CatalogQuestion,
) -> Result<Arc<dyn Any + Send + Sync>, NoCatalog> {
    let key = (
        Arc::clone(&question.target.name),
        Arc::clone(&question.database),
        question.login.user.clone(),
    );
    let slot = node.catalogs.slot(key).await;
    let asked_at = Instant::now();
    let mut cached = slot.cached.lock().await;
    if let Some(known) = cached.as_ref()
        && known.serves(question.needed, asked_at)
    {
        let catalog = Arc::clone(&known.catalog);
        let aging = known.read_at.elapsed() > known.age_max / 2 || known.is_partly_old();
        if aging && !slot.renewing.swap(true, Ordering::AcqRel) {
            tokio::spawn(renew(node, question, Arc::clone(&slot)));
        }
        return Ok(catalog as Arc<dyn Any + Send + Sync>);
    }
    let base = cached.as_ref().filter(|known| !known.is_partly_old());
    let read = match base {
        Some(base) if question.needed != CatalogNeeded::Recent => {
            renewed(&node, &question, &slot, base).await?
        }
        Some(_) | None => fresh(&node, &question, &slot).await?,
    };
    let catalog = Arc::clone(&read.catalog);
    *cached = Some(read);
    Ok(catalog)
}

async fn renew(node: Arc<Node>, question: CatalogQuestion, slot: Arc<Slot>) {
    let read = fresh(&node, &question, &slot).await;
    let mut cached = slot.cached.lock().await;
    if let Ok(read) = read
        && cached
            .as_ref()
            .is_none_or(|known| known.read_at < read.read_at)
    {
        *cached = Some(read);
    }
    slot.renewing.store(false, Ordering::Release);
}

/// Everything.
async fn fresh(node: &Node, question: &CatalogQuestion, slot: &Slot) -> Result<Cached, NoCatalog> {
    let reading = Reading::begin(node, question);
    let rows = rows(node, question, slot, What::Everything).await?;
    let catalog = Catalog::from_rows(&rows).map_err(not_understood)?;
    Ok(reading.end(catalog, None))
}

/// What is not the server's own; that is taken over.
async fn renewed(
    node: &Node,
    question: &CatalogQuestion,
    slot: &Slot,
    base: &Cached,
) -> Result<Cached, NoCatalog> {
    let reading = Reading::begin(node, question);
    let rows = rows(node, question, slot, What::Own).await?;
    let catalog = base.catalog.renewed(&rows).map_err(not_understood)?;
    Ok(reading.end(catalog, Some(base.whole_at)))
}

fn not_understood(error: CatalogError) -> NoCatalog {
    NoCatalog {
        text: "weir: the catalog of this database cannot be understood",
        detail: error.to_string(),
    }
}

async fn rows(
    node: &Node,
    question: &CatalogQuestion,
    slot: &Slot,
    what: What,
) -> Result<CatalogRows, NoCatalog> {
    match timeout(READ_TIME_MAX, slot.reader.read(node, question, what)).await {
        Ok(rows) => rows,
        Err(_elapsed) => Err(NoCatalog {
            text: "weir: reading the catalog of this database took too long",
            detail: "20 s".to_owned(),
        }),
    }
}

/// When a reading began, and how many changes had been seen then.
struct Reading {
    at: Instant,
    definitions: u64,
}

impl Reading {
    fn begin(node: &Node, question: &CatalogQuestion) -> Self {
        Self {
            at: Instant::now(),
            definitions: node.catalogs.definitions(&question.target.name).count(),
        }
    }

    fn end(&self, catalog: Catalog, whole_at: Option<Instant>) -> Cached {
        Cached {
            catalog: Arc::new(catalog),
            read_at: self.at,
            definitions: self.definitions,
            age_max: (self.at.elapsed() * READING_SHARE).clamp(AGE_MIN, AGE_MAX),
            whole_at: whole_at.unwrap_or(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knows_of_a_change_gets_what_was_read_after_it() {
        let catalog = weir_postgres::catalog::from_ddl("create table t (a int)");
        let catalog = Arc::new(catalog.expect("a catalog"));
        let read_at = Instant::now();
        let cached = |age_max| Cached {
            catalog: Arc::clone(&catalog),
            read_at,
            definitions: 3,
            whole_at: read_at,
            age_max,
        };
        let (before, after) = (read_at - AGE_MIN, read_at + AGE_MIN);
        assert!(cached(AGE_MAX).serves(CatalogNeeded::Recent, after));
        assert!(!cached(Duration::ZERO).serves(CatalogNeeded::Recent, before));
        assert!(cached(AGE_MAX).serves(CatalogNeeded::New, before));
        assert!(!cached(AGE_MAX).serves(CatalogNeeded::New, after));
        for seen in [2, 3] {
            assert!(cached(AGE_MAX).serves(CatalogNeeded::Since(seen), after));
        }
        assert!(!cached(AGE_MAX).serves(CatalogNeeded::Since(4), before));
    }
}
