//! Sessions of those who may only read: their transactions are read-only at the server, too.
//!
//! A second line: a function that is taken for harmless and is not, or a statement that is taken for
//! a read, fails there (PostgreSQL, SET TRANSACTION). The setting is made by a question of our own
//! between two transactions, since poolers refuse start-up parameters that they do not know; what
//! would undo it is refused, or made good before the next transaction.

use std::sync::LazyLock;

use weir_decide::Never;
use weir_model::request::{AttrValue, Object};

use crate::session::PostgresSession;
use crate::understand::Statement;
use crate::vocabulary::VOCABULARY;

/// Actions that a read-only transaction does not refuse.
const READS: [&str; 19] = [
    "select",
    "readColumn",
    "usePredicate",
    "copyOut",
    "set",
    "setRole",
    "show",
    "explain",
    "transaction",
    "twoPhase",
    "session",
    "parse",
    "prepare",
    "execute",
    "listen",
    "notify",
    "readFile",
    "writeFile",
    "runProgram",
];

static WRITES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let actions = VOCABULARY.actions.iter().map(|action| action.name);
    actions.filter(|name| !READS.contains(name)).collect()
});

/// Advisory locks are taken and given back in read-only transactions as well.
fn writes_nothing(object: &Object) -> bool {
    let [_, _, schema, name] = &*object.path else {
        return false;
    };
    let lock = name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_");
    object.kind == "Function" && &**schema == "pg_catalog" && lock
}

impl PostgresSession {
    /// Whether policy can permit a write has to be found out anew.
    pub(crate) fn note_policy(&mut self) {
        let never = Never {
            actions: &WRITES,
            context: &[("readOnly", AttrValue::Bool(false))],
            spared: writes_nothing,
        };
        let governor = self.governor.as_ref();
        self.only_reads = governor.is_some_and(|governor| governor.never_permits(&never));
    }

    /// The server does not know yet, or no longer, that this session only reads.
    pub(crate) const fn must_switch(&self) -> bool {
        self.only_reads && !self.names.read_only
    }

    /// What the server goes by is another thing than policy, and can be changed now.
    pub(crate) const fn can_switch(&self) -> bool {
        self.only_reads != self.names.read_only && self.transaction == b'I' && !self.batch_open
    }

    /// Whether a text would begin a transaction that may write.
    pub(crate) fn breaks_read_only(&self, statements: &[Statement]) -> bool {
        if !self.only_reads {
            return false;
        }
        let alone = !self.batch_open && statements.len() == 1;
        let last = statements.len().saturating_sub(1);
        (self.must_switch() && !alone)
            || statements
                .iter()
                .enumerate()
                .any(|(at, one)| one.changes.writable || (one.changes.resets && at != last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_is_an_action() {
        for name in READS {
            let known = VOCABULARY.actions.iter().any(|action| action.name == name);
            assert!(known, "{name}");
        }
        assert!(WRITES.contains(&"insert") && WRITES.contains(&"call"));
    }
}
