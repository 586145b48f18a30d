//! `/revocations`: the kill list. Changing it needs a fresh sign-in of somebody who may.

use std::sync::Arc;

use axum::extract::{Extension, State as AxumState};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use weir_model::ident::{Principal, RevokedKind, SessionId};
use weir_relay::Node;
use weir_state::{Revocation, State};

use super::api;
use super::routes::{Failed, Shared, failed};
use super::server::{AdminState, PeerUid};
use crate::config::Config;

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/revocations", get(list).post(revoke))
        .route("/revocations/lift", post(lift))
        .with_state(state)
}

async fn list(AxumState(state): Shared) -> Result<Json<Vec<api::Revocation>>, Failed> {
    let entries = state
        .state
        .revocations()
        .await
        .map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(Json(entries.into_iter().map(describe).collect()))
}

fn describe(entry: Revocation) -> api::Revocation {
    api::Revocation {
        kind: entry.kind.label().to_owned(),
        value: entry.value,
        by: entry.by,
        reason: entry.reason,
        at_ms: entry.at_us / 1000,
    }
}

async fn revoke(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::RevokeBody>,
) -> Result<Json<api::Revoked>, Failed> {
    let admin = administrator(&state, uid)?;
    let kind = kind_of(&body.kind)?;
    let value = value_of(kind, &body.value)?;
    let reason = body.reason.trim();
    if reason.is_empty() || reason.len() > super::routes::JUSTIFICATION_BYTES_MAX {
        let text = "a reason of at most 4 KiB is needed: --reason";
        return Err(failed(StatusCode::BAD_REQUEST, text));
    }
    let entry = Revocation {
        kind,
        value,
        by: admin.oid.to_string(),
        reason: reason.to_owned(),
        at_us: weir_clock::now().wall_us,
    };
    let ended = enforce(&state.node, &state.state, entry).await;
    let ended = ended.map_err(|text| failed(StatusCode::INTERNAL_SERVER_ERROR, text))?;
    Ok(Json(api::Revoked { ended }))
}

/// Ends what an entry names and keeps it out; how many live sessions were told.
///
/// # Errors
/// It is in force, and could not be written.
pub(crate) async fn enforce(
    node: &Node,
    state: &State,
    entry: Revocation,
) -> Result<usize, String> {
    // In force before it is written: the second that this takes may matter.
    let ended = node.revoke(entry.kind, &entry.value);
    let (kind, value, by) = (entry.kind.label(), &entry.value, &entry.by);
    tracing::warn!(kind, %value, %by, ended, "revoked");
    if entry.kind != RevokedKind::Session {
        let kept = state.revoke(entry).await;
        kept.map_err(|error| format!("in force, but only until the node is restarted: {error}"))?;
    }
    Ok(ended)
}

async fn lift(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::RevokeBody>,
) -> Result<StatusCode, Failed> {
    let admin = administrator(&state, uid)?;
    let kind = kind_of(&body.kind)?;
    let value = value_of(kind, &body.value)?;
    let removed = state.state.lift(kind, value.clone()).await;
    let removed = removed.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    if !removed {
        return Err(failed(StatusCode::NOT_FOUND, "that is not revoked"));
    }
    state.node.lift(kind, &value);
    tracing::warn!(kind = kind.label(), %value, by = %admin.oid, "lifted a revocation");
    Ok(StatusCode::NO_CONTENT)
}

fn kind_of(text: &str) -> Result<RevokedKind, Failed> {
    RevokedKind::parse(text)
        .ok_or_else(|| failed(StatusCode::BAD_REQUEST, "there is no such kind of subject"))
}

/// Values are compared as text, so they are taken in one form only.
fn value_of(kind: RevokedKind, text: &str) -> Result<String, Failed> {
    normal(kind, text).ok_or_else(|| {
        let text = "not of the right form: ids are GUIDs, a cgroup is its number";
        failed(StatusCode::BAD_REQUEST, text)
    })
}

/// The one form of a value; `None` for what names nothing.
pub(crate) fn normal(kind: RevokedKind, text: &str) -> Option<String> {
    match kind {
        RevokedKind::Tenant | RevokedKind::Principal | RevokedKind::Application => {
            uuid::Uuid::parse_str(text).ok().map(|id| id.to_string())
        }
        RevokedKind::Session => SessionId::parse(text).map(|id| id.to_string()),
        RevokedKind::Cgroup => text.parse::<u64>().ok().map(|id| id.to_string()),
        RevokedKind::Workload => (!text.is_empty()).then(|| text.to_owned()),
    }
}

fn administrator(state: &AdminState, uid: u32) -> Result<Arc<Principal>, Failed> {
    let principal = state
        .signins
        .fresh(uid, weir_clock::now())
        .ok_or_else(|| failed(StatusCode::UNAUTHORIZED, "sign in first: weir login"))?;
    if may_revoke(&state.config, &principal) {
        Ok(principal)
    } else {
        let text = "you are in none of the groups that may revoke (admin.groups)";
        Err(failed(StatusCode::FORBIDDEN, text))
    }
}

/// Whoever is in one of `admin.groups`; without any, every reviewer, since ending what an agent does
/// must never wait for a group to be made. With neither, nobody.
fn may_revoke(config: &Config, principal: &Principal) -> bool {
    let groups = if config.admin_groups.is_empty() {
        &config.approvals.reviewer_groups
    } else {
        &config.admin_groups
    };
    let mut have = principal.groups.certain();
    have.any(|have| groups.values().any(|guid| **have == *guid.as_str()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_model::ident::{EvidenceKind, Groups, PrincipalKind};

    use super::*;
    use crate::config::parse;
    use crate::config::tests::GOOD;

    const DBA: &str = "44444444-4444-4444-8444-444444444444";
    const SRE: &str = "66666666-6666-4666-8666-666666666666";

    fn member(groups: Groups) -> Principal {
        Principal {
            kind: PrincipalKind::Person,
            cloud: "public".into(),
            tenant: "t".into(),
            oid: "o".into(),
            app: "a".into(),
            roles: [].into(),
            groups,
            on_behalf_of: None,
            token_id: "".into(),
            evidence: EvidenceKind::Person,
            workload: "".into(),
            valid_until_s: 0,
        }
    }

    fn of(group: &str) -> Principal {
        member(Groups::Known([Arc::from(group)].into()))
    }

    #[test]
    fn without_admin_groups_reviewers_revoke_and_with_them_only_those() {
        let reviewers = format!("approvals: {{ reviewer_groups: {{ dba: \"{DBA}\" }} }}\n");
        let admins = format!("admin: {{ groups: {{ sre: \"{SRE}\" }} }}\n");
        let nothing = String::new();
        for (sections, dba, sre) in [
            ([&reviewers, &nothing], true, false),
            ([&reviewers, &admins], false, true),
            ([&nothing, &admins], false, true),
            ([&nothing, &nothing], false, false),
        ] {
            let text = format!("{GOOD}{}{}", sections[0], sections[1]);
            let config = parse(&text, Path::new("/etc/weir")).unwrap();
            assert_eq!(may_revoke(&config, &of(DBA)), dba, "{sections:?}");
            assert_eq!(may_revoke(&config, &of(SRE)), sre, "{sections:?}");
            // Groups that are not known are no groups.
            assert!(!may_revoke(&config, &member(Groups::Overage)));
        }
    }
}
