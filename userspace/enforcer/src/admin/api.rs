//! What goes over the admin socket, as JSON.

use serde::{Deserialize, Serialize};
use weir_model::effect::Effect;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flow {
    pub(crate) session: String,
    pub(crate) workload: String,
    pub(crate) target: String,
    pub(crate) principal: String,
    /// The workload's own principal, where its client presented a token of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) presented_by: Option<String>,
    pub(crate) client_addr: String,
    pub(crate) server_addr: String,
    pub(crate) pid: u32,
    pub(crate) comm: String,
    pub(crate) age_s: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Approval {
    pub(crate) id: String,
    pub(crate) state: String,
    /// Unix milliseconds.
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: i64,
    pub(crate) session: String,
    pub(crate) workload: String,
    pub(crate) principal: String,
    pub(crate) target: String,
    pub(crate) database: String,
    pub(crate) statement: String,
    pub(crate) parameters: String,
    pub(crate) accesses: Vec<String>,
    pub(crate) process: String,
    pub(crate) rules: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) reason: String,
    pub(crate) approver: String,
    pub(crate) justification: String,
    /// Different people who have to approve, and who has so far.
    pub(crate) approvals: u32,
    pub(crate) approved_by: Vec<String>,
    /// What it did, in a transaction that the decision ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) effect: Option<Effect>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DecideBody {
    pub(crate) approve: bool,
    pub(crate) justification: String,
    /// With an approval: allow more of the same for a while.
    #[serde(default)]
    pub(crate) grant: Option<GrantBody>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GrantBody {
    /// `statement`, `shape`, `object` or `session`.
    pub(crate) scope: String,
    pub(crate) for_s: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokeGrantBody {
    pub(crate) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The approval that it came from; also its own id.
    pub(crate) id: String,
    pub(crate) scope: String,
    /// `in force`, `expired` or `revoked`.
    pub(crate) state: String,
    /// Unix milliseconds.
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: i64,
    pub(crate) uses: i64,
    pub(crate) used_ms: Option<i64>,
    pub(crate) revoked_by: Option<String>,
    pub(crate) revoked_why: Option<String>,
    /// What was approved, and by whom.
    pub(crate) approval: Approval,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunBody {
    /// Workload that the process becomes.
    pub(crate) agent: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokeBody {
    pub(crate) kind: String,
    pub(crate) value: String,
    pub(crate) reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Revoked {
    /// Live sessions that were told to end.
    pub(crate) ended: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Revocation {
    pub(crate) kind: String,
    pub(crate) value: String,
    pub(crate) by: String,
    pub(crate) reason: String,
    /// Unix milliseconds.
    pub(crate) at_ms: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoginStart {
    pub(crate) user_code: String,
    pub(crate) verification_uri: String,
    pub(crate) interval_s: u64,
    pub(crate) expires_s: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BrowserBody {
    /// Loopback address that the browser comes back to.
    pub(crate) redirect_uri: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RunBrowserBody {
    pub(crate) agent: String,
    pub(crate) redirect_uri: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BrowserStart {
    /// To open.
    pub(crate) url: String,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BrowserAnswer {
    /// As the browser brought it: holds the code.
    pub(crate) query: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(crate) enum LoginState {
    Pending,
    SignedIn { who: Who },
    Refused { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    pub(crate) tenant: String,
    pub(crate) oid: String,
    pub(crate) groups: Vec<String>,
    /// Seconds for which decisions are still taken from this sign-in.
    pub(crate) fresh_for_s: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) ready: bool,
    /// What is not there yet, by name.
    pub(crate) pending: Vec<String>,
}
