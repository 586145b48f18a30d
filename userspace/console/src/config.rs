//! What a console is configured with, checked by the caller.

use crate::person::Roles;

/// How long sessions of browsers last, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Without a click.
    pub idle_s: i64,
    /// In any case; never longer than what Entra said of the person is good for.
    pub absolute_s: i64,
    /// Decisions and revocations are taken for so long after a sign-in.
    pub fresh_s: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            idle_s: 30 * 60,
            absolute_s: 8 * 3600,
            fresh_s: 15 * 60,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    /// Origin that browsers see, without a final `/`: `https://weir.example`.
    pub origin: String,
    /// Served by TLS, so that cookies can be bound to it.
    pub secure: bool,
    pub lifetimes: Lifetimes,
    pub roles: Roles,
    /// Name of this node.
    pub node: String,
}

impl ConsoleConfig {
    /// `__Host-` cookies are only set over TLS, for exactly this host and path (RFC 6265bis,
    /// section 4.1.3.2). Plain http is for tests on loopback.
    pub(crate) const fn cookie(&self) -> &'static str {
        if self.secure {
            "__Host-weir"
        } else {
            "weir-plain"
        }
    }

    /// Of a sign-in under way.
    pub(crate) const fn cookie_of_sign_in(&self) -> &'static str {
        if self.secure {
            "__Host-weir-sign-in"
        } else {
            "weir-plain-sign-in"
        }
    }
}
