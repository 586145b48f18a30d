//! The rules of deciding, on a real SQLite.

use super::*;
use crate::approval::Reviewer;

fn new() -> NewApproval {
    NewApproval {
        created_us: 1_000,
        expires_us: 2_000,
        session: SessionId(7),
        seq: 3,
        tenant: "t".to_owned(),
        principal: "agent".to_owned(),
        application: "app".to_owned(),
        on_behalf_of: "person".to_owned(),
        workload: "operator".to_owned(),
        target: "demo".to_owned(),
        database: "shop".to_owned(),
        statement: "delete from orders".to_owned(),
        parameters: String::new(),
        accesses: vec!["delete Table:demo/shop/public/orders".to_owned()],
        process: "psql".to_owned(),
        rules: vec!["hold-unbounded".to_owned()],
        groups: vec!["dba".to_owned()],
        reason: "no WHERE".to_owned(),
    }
}

fn decision(approve: bool, oid: &str, groups: &[&str]) -> Decision {
    Decision {
        approve,
        reviewer: Reviewer {
            tenant: "t".to_owned(),
            oid: oid.to_owned(),
            name: oid.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        },
        justification: "ticket 1".to_owned(),
    }
}

const ID: ApprovalId = ApprovalId(42);

fn store_with(new: &NewApproval) -> Store {
    let store = Store::in_memory().unwrap();
    store.create(ID, new).unwrap();
    store
}

#[test]
fn an_approval_by_a_member_is_taken_once() {
    let mut store = store_with(&new());
    let row = store
        .decide(ID, &decision(true, "alice", &["dba"]), 1_500)
        .unwrap();
    assert_eq!(row.state, ApprovalState::Approved);
    assert_eq!(row.new, new());
    let again = store.decide(ID, &decision(false, "alice", &["dba"]), 1_500);
    assert!(matches!(again, Err(StateError::NotPending("approved"))));
    assert!(store.mark_used(ID).unwrap());
    assert!(!store.mark_used(ID).unwrap());
}

#[test]
fn outsiders_requesters_and_the_silent_are_refused() {
    let mut store = store_with(&new());
    let outsider = store.decide(ID, &decision(true, "bob", &["other"]), 1_500);
    assert!(matches!(outsider, Err(StateError::NotAReviewer(_))));
    let own = store.decide(ID, &decision(true, "agent", &["dba"]), 1_500);
    assert!(matches!(own, Err(StateError::OwnRequest)));
    let behalf = store.decide(ID, &decision(true, "person", &["dba"]), 1_500);
    assert!(matches!(behalf, Err(StateError::OwnRequest)));
    let mut silent = decision(true, "alice", &["dba"]);
    silent.justification = "  ".to_owned();
    assert!(matches!(
        store.decide(ID, &silent, 1_500),
        Err(StateError::NoJustification)
    ));
    assert_eq!(
        store.get(ID).unwrap().unwrap().state,
        ApprovalState::Pending
    );
}

#[test]
fn a_late_decision_is_no_decision() {
    let mut store = store_with(&new());
    let late = store.decide(ID, &decision(true, "alice", &["dba"]), 2_000);
    assert!(matches!(late, Err(StateError::Expired)));
    assert_eq!(
        store.get(ID).unwrap().unwrap().state,
        ApprovalState::Expired
    );
}

#[test]
fn several_groups_must_all_agree_and_one_denial_ends_it() {
    let two = NewApproval {
        groups: vec!["dba".to_owned(), "owner".to_owned()],
        ..new()
    };
    let mut store = store_with(&two);
    let first = store
        .decide(ID, &decision(true, "alice", &["dba"]), 1_500)
        .unwrap();
    assert_eq!(first.state, ApprovalState::Pending);
    let same = store
        .decide(ID, &decision(true, "carol", &["dba"]), 1_500)
        .unwrap();
    assert_eq!(same.state, ApprovalState::Pending);
    let second = store
        .decide(ID, &decision(true, "dave", &["owner"]), 1_500)
        .unwrap();
    assert_eq!(second.state, ApprovalState::Approved);

    let mut store = store_with(&two);
    let denied = store
        .decide(ID, &decision(false, "alice", &["dba"]), 1_500)
        .unwrap();
    assert_eq!(denied.state, ApprovalState::Denied);
}

#[test]
fn a_prior_decision_serves_the_identical_request_once() {
    let mut store = store_with(&new());
    store
        .decide(ID, &decision(true, "alice", &["dba"]), 1_500)
        .unwrap();
    let n = new();
    let key = PriorKey {
        tenant: n.tenant,
        principal: n.principal,
        target: n.target,
        database: n.database,
        statement: n.statement,
        parameters: n.parameters,
        rules: n.rules,
    };
    let other = PriorKey {
        statement: "delete from customers".to_owned(),
        ..key.clone()
    };
    assert!(store.take_prior(&other, 1_600).unwrap().is_none());
    assert!(store.take_prior(&key, 2_000).unwrap().is_none());
    assert!(store.take_prior(&key, 1_600).unwrap().is_some());
    assert!(store.take_prior(&key, 1_600).unwrap().is_none());
}

#[test]
fn expiry_and_abandonment_touch_pending_requests_only() {
    let store = store_with(&new());
    assert!(store.expire_due(1_999).unwrap().is_empty());
    assert_eq!(store.expire_due(2_000).unwrap(), vec![ID]);
    store.abandon(ID).unwrap();
    assert_eq!(
        store.get(ID).unwrap().unwrap().state,
        ApprovalState::Expired
    );
}
