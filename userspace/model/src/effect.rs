//! What a request did before anybody approved it, for those who decide whether it stays.

use serde::{Deserialize, Serialize};

/// The effect of one held request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The server's own word: `UPDATE 3`.
    pub tag: String,
    pub changed: Vec<Changed>,
}

/// Rows of one table, as the principal that asks would see them: masked, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// `schema.table`
    pub table: String,
    pub columns: Vec<String>,
    /// The first of those that were changed or removed, as they were.
    pub before: Vec<Vec<Option<String>>>,
    /// The first of those that were changed or added, as they are.
    pub after: Vec<Vec<Option<String>>>,
    /// There are more of either than are here.
    pub more: bool,
    /// Policy does not let the principal read them, so nobody is shown them.
    pub withheld: bool,
}
