//! Changes of definitions that sessions of one target saw end, counted for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by the sessions of a target: each counts what it changed, and goes by a catalog that was
/// read after what the others did.
#[derive(Clone, Debug, Default)]
pub struct Definitions(Arc<AtomicU64>);

impl Definitions {
    /// How many changes were seen to end.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// A transaction that changed definitions has ended.
    pub fn changed(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
