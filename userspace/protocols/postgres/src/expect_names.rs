//! What names mean to this session: the catalog, `search_path` and role, before the next decision.

use std::any::Any;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use weir_govern::{CatalogNeeded, CatalogRequest, CloseReason, Output, OwnToClient};
use weir_model::time::Now;

use crate::catalog::Catalog;
use crate::session::{Names, PostgresSession, State};
use crate::wire::backend::put_ready;
use crate::wire::{cstr, message};

/// Tries of a session that moved to read the catalog, and the time between them.
const RESTORED_TRIES_MAX: u32 = 60;
const RESTORED_AGAIN_US: u64 = 1_000_000;
/// After this a session asks whether the catalog that it goes by is still the server's: somebody who
/// does not come through Weir may have changed it.
const CATALOG_AGE_US: u64 = 10_000_000;
/// The server described something else than the catalog says: it is asked for anew, but not for each
/// such statement.
const CATALOG_DOUBT_US: u64 = 1_000_000;

impl PostgresSession {
    /// Role and path as the server says.
    pub(crate) fn names_here(&mut self, role: String, path: Vec<String>, now: Now) {
        let search_path: Vec<Arc<str>> = path.into_iter().map(Arc::from).collect();
        if *self.names.role != *role || self.names.search_path != search_path {
            self.epoch += 1;
            self.path_moved |= self.transaction != b'I' || self.batch_open;
        }
        self.names = Names {
            search_path,
            role: Arc::from(role),
            stale: false,
            read_only: self.names.read_only,
        };
        self.understood.clear();
        if matches!(self.state, State::FirstCatalog) {
            self.waiting = false;
            self.greet(now);
        } else {
            self.resume(now);
        }
    }

    /// Asks for what the next decision needs: the catalog of everybody, or within a transaction that
    /// of the session.
    pub(crate) fn ask(&mut self) {
        let own = self.transaction == b'T' || self.batch_open;
        if self.catalog_stale && self.catalog_shared && !own {
            self.ask_catalog(CatalogNeeded::New, self.config.definitions.count());
        } else {
            self.ask_server(self.catalog_stale);
        }
    }

    /// Between transactions; what happens in one is seen by its own statements.
    pub(crate) fn catalog_is_old(&self) -> bool {
        let aged = self.clock_us.saturating_sub(self.catalog_at_us) > CATALOG_AGE_US;
        let changed = self.config.definitions.count() != self.definitions_seen;
        (aged || changed || self.catalog_doubted) && self.transaction == b'I' && !self.batch_open
    }

    /// Whether something is asked for, or waited for, that is due between two transactions.
    pub(crate) fn asks_between(&mut self) -> bool {
        let (old, switch) = (self.catalog_is_old(), self.can_switch());
        if (old || switch) && !self.idle() {
            self.drain();
        } else if old {
            let seen = self.config.definitions.count();
            let doubted = std::mem::take(&mut self.catalog_doubted);
            let needed = match (doubted, seen == self.definitions_seen) {
                (true, _) => CatalogNeeded::New,
                (false, true) => CatalogNeeded::Recent,
                (false, false) => CatalogNeeded::Since(seen),
            };
            self.ask_catalog(needed, seen);
        } else if switch {
            self.ask();
        }
        old || switch
    }

    pub(crate) fn doubt_catalog(&mut self) {
        let since_us = self.clock_us.saturating_sub(self.catalog_at_us);
        self.catalog_doubted |= since_us > CATALOG_DOUBT_US;
    }

    pub(crate) fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        let before = self.catalog.as_ref().map(|old| old.generation());
        if before.is_some_and(|old| old != catalog.generation()) {
            self.epoch += 1;
        }
        self.catalog = Some(catalog);
        self.understood.clear();
        self.catalog_stale = false;
        self.masks_here = None;
    }

    /// The first `ReadyForQuery`, with everything that comes before it.
    fn greet(&mut self, _now: Now) {
        let statuses = std::mem::take(&mut self.greeting);
        let notices = std::mem::take(&mut self.greeting_notices);
        // The server's own number: clients compare it with that of notifications and views.
        if let Some((pid, _)) = &self.server_key {
            self.config.cancel.pid = *pid;
        }
        let cancel = self.config.cancel.clone();
        self.tell_client(OwnToClient::Handshake, |out| {
            message(out, b'R', |out| out.put_u32(0));
            for notice in notices {
                out.put_slice(&notice);
            }
            for (name, value) in statuses {
                message(out, b'S', |out| {
                    cstr(out, &name);
                    cstr(out, &value);
                });
            }
            message(out, b'K', |out: &mut BytesMut| {
                out.put_i32(cancel.pid);
                out.put_slice(&cancel.secret);
            });
            put_ready(out, b'I');
        });
        self.outputs.push_back(Output::RegisterCancel(cancel));
        self.state = State::Query;
    }

    /// `seen` is the number of changes that is known of.
    fn ask_catalog(&mut self, needed: CatalogNeeded, seen: u64) {
        self.waiting = true;
        self.catalog_shared = false;
        self.catalog_at_us = self.clock_us;
        self.definitions_seen = seen;
        let request = CatalogRequest {
            database: Arc::clone(&self.database),
            needed,
        };
        self.outputs.push_back(Output::Catalog(request));
    }

    /// Without a catalog nothing can be decided; but a session that has just moved here waits, since
    /// its client has done nothing that could have failed.
    pub(crate) fn catalog_failed(&mut self, text: &'static str, now: Now) {
        if let State::Restored {
            again_us, failures, ..
        } = &mut self.state
            && *failures < RESTORED_TRIES_MAX
        {
            *failures += 1;
            *again_us = Some(now.mono_us.saturating_add(RESTORED_AGAIN_US));
            return;
        }
        self.fatal("08006", text, CloseReason::UpstreamFailed);
    }

    pub(crate) fn ask_catalog_again(&mut self) {
        if let State::Restored { again_us, .. } = &mut self.state
            && again_us.take().is_some()
        {
            let request = CatalogRequest {
                database: Arc::clone(&self.database),
                needed: CatalogNeeded::Recent,
            };
            self.outputs.push_back(Output::Catalog(request));
        }
    }

    pub(crate) fn catalog_here(&mut self, answer: Arc<dyn Any + Send + Sync>, now: Now) {
        let Ok(catalog) = answer.downcast::<Catalog>() else {
            let text = "weir: the catalog is of another kind";
            return self.fatal("XX000", text, CloseReason::Internal);
        };
        if let State::Restored {
            catalog: Some(before),
            ..
        } = &self.state
            && *before != catalog.generation()
        {
            self.epoch += 1;
        }
        self.set_catalog(catalog);
        self.catalog_at_us = self.clock_us;
        // It is everybody's: what only this session has is asked for beside it.
        let temporary = |schema: &Arc<str>| schema.starts_with("pg_temp_");
        let own = self.names.search_path.iter().any(temporary)
            || matches!(self.state, State::Restored { .. });
        self.catalog_stale = std::mem::take(&mut self.catalog_live) && own;
        if matches!(self.state, State::FirstCatalog) {
            self.ask_server(false);
        } else if matches!(self.state, State::Restored { .. }) {
            self.note_policy();
            self.state = State::Query;
        } else {
            self.resume(now);
        }
    }
}
