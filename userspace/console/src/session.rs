//! Sessions of browsers and sign-ins under way, in memory only: a restart signs everybody out.
//!
//! A cookie's value is 256 random bits; kept is only its digest, so that no copy of this memory's
//! keys opens a session.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use weir_model::time::Now;

use crate::config::Lifetimes;
use crate::person::Person;

/// Browsers at once; the one that was idle longest goes first.
const SESSIONS_MAX: usize = 1000;
/// Sign-ins under way at once.
const PENDING_MAX: usize = 1000;
/// Who does not come back from the authority within this time starts again.
const PENDING_S: i64 = 600;

type Key = [u8; 32];

/// What a request is let in with.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) person: Person,
    /// Goes into every form.
    pub(crate) csrf: String,
    /// The sign-in is recent enough to decide.
    pub(crate) fresh: bool,
    /// For the limits of this session.
    pub(crate) key: Key,
}

impl Visit {
    /// Whether a form came from a page of this session.
    pub(crate) fn sent(&self, token: &str) -> bool {
        verify_slices_are_equal(token.as_bytes(), self.csrf.as_bytes()).is_ok()
    }
}

struct Session {
    person: Person,
    csrf: String,
    since_s: i64,
    used_s: i64,
}

/// A sign-in under way.
pub(crate) struct Begun {
    pub(crate) state: String,
    pub(crate) kept: Box<dyn Any + Send + Sync>,
    pub(crate) next: String,
    since_s: i64,
}

impl Begun {
    pub(crate) fn new(state: String, kept: Box<dyn Any + Send + Sync>, next: String) -> Self {
        Self {
            state,
            kept,
            next,
            since_s: 0,
        }
    }
}

pub(crate) struct Sessions {
    lifetimes: Lifetimes,
    live: Mutex<HashMap<Key, Session>>,
    begun: Mutex<HashMap<Key, Begun>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(value: &str) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, value.as_bytes()).as_ref());
    key
}

fn random() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Sessions {
    pub(crate) fn new(lifetimes: Lifetimes) -> Self {
        Self {
            lifetimes,
            live: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Keeps a sign-in under way; gives the cookie that its browser comes back with.
    pub(crate) fn begin(&self, begun: Begun, now: Now) -> String {
        let cookie = random();
        let since_s = now.unix_s();
        let mut all = locked(&self.begun);
        all.retain(|_, one| since_s - one.since_s < PENDING_S);
        if all.len() >= PENDING_MAX
            && let Some(oldest) = all
                .iter()
                .min_by_key(|(_, one)| one.since_s)
                .map(|(key, _)| *key)
        {
            all.remove(&oldest);
        }
        all.insert(key(&cookie), Begun { since_s, ..begun });
        cookie
    }

    /// The sign-in of this browser, used up.
    pub(crate) fn come_back(&self, cookie: &str, now: Now) -> Option<Begun> {
        let begun = locked(&self.begun).remove(&key(cookie))?;
        (now.unix_s() - begun.since_s < PENDING_S).then_some(begun)
    }

    /// Opens a session; gives its cookie. Always a new one, so that nobody can have set it before.
    pub(crate) fn open(&self, person: Person, now: Now) -> String {
        let cookie = random();
        let since_s = now.unix_s();
        let mut live = locked(&self.live);
        live.retain(|_, one| one.is_alive(self.lifetimes, since_s));
        if live.len() >= SESSIONS_MAX
            && let Some(idle) = live
                .iter()
                .min_by_key(|(_, one)| one.used_s)
                .map(|(key, _)| *key)
        {
            live.remove(&idle);
        }
        let session = Session {
            person,
            csrf: random(),
            since_s,
            used_s: since_s,
        };
        live.insert(key(&cookie), session);
        cookie
    }

    /// The session of a cookie, while it lasts. Only what a person does (`active`) keeps it from
    /// becoming idle: a page that is left open does not.
    pub(crate) fn visit(&self, cookie: &str, active: bool, now: Now) -> Option<Visit> {
        let (key, now_s) = (key(cookie), now.unix_s());
        let mut live = locked(&self.live);
        let session = live.get_mut(&key)?;
        if !session.is_alive(self.lifetimes, now_s) {
            live.remove(&key);
            return None;
        }
        if active {
            session.used_s = now_s;
        }
        Some(Visit {
            person: session.person.clone(),
            csrf: session.csrf.clone(),
            fresh: now_s - session.since_s <= self.lifetimes.fresh_s,
            key,
        })
    }

    pub(crate) fn close(&self, cookie: &str) {
        locked(&self.live).remove(&key(cookie));
    }
}

impl Session {
    fn is_alive(&self, lifetimes: Lifetimes, now_s: i64) -> bool {
        now_s - self.used_s < lifetimes.idle_s
            && now_s - self.since_s < lifetimes.absolute_s
            && now_s <= self.person.principal.valid_until_s
    }
}

#[cfg(test)]
mod tests;
