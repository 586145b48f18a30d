//! Approvals over a real SQLite file.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use weir_model::ident::{ApprovalId, SessionId};
use weir_model::time::Now;
use weir_state::{
    ApprovalState, Decision, NewApproval, PriorKey, Reviewer, State, StateError, StateStore,
};

fn file() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::now_v7().to_string());
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("state.sqlite")
}

const fn at(wall_us: i64) -> Now {
    Now {
        mono_us: 0,
        wall_us,
    }
}

fn new(groups: &[&str]) -> NewApproval {
    NewApproval {
        created_us: 1_000,
        expires_us: 2_000,
        session: SessionId(7),
        seq: 3,
        tenant: "t".into(),
        principal: "t/agent".into(),
        application: "app".into(),
        on_behalf_of: "t/boss".into(),
        workload: "operator".into(),
        target: "demo".into(),
        database: "shop".into(),
        statement: "delete from orders".into(),
        parameters: "[]".into(),
        accesses: vec!["delete Table:demo/shop/public/orders".into()],
        process: "psql (pid 4)".into(),
        rules: vec!["unbounded".into()],
        groups: groups.iter().map(ToString::to_string).collect(),
        reason: "every row".into(),
    }
}

fn says(approve: bool, oid: &str, groups: &[&str]) -> Decision {
    Decision {
        approve,
        reviewer: Reviewer {
            tenant: "t".into(),
            oid: oid.into(),
            name: oid.into(),
            groups: groups.iter().map(ToString::to_string).collect(),
        },
        justification: "ticket 4711".into(),
    }
}

fn key() -> PriorKey {
    let new = new(&["dba"]);
    PriorKey {
        tenant: new.tenant,
        principal: new.principal,
        application: new.application,
        on_behalf_of: new.on_behalf_of,
        workload: new.workload,
        target: new.target,
        database: new.database,
        statement: new.statement,
        parameters: new.parameters,
    }
}

fn store() -> StateStore {
    StateStore::open(&file()).unwrap()
}

#[test]
fn the_file_and_its_log_are_private_and_links_are_refused() {
    let path = file();
    let mut store = StateStore::open(&path).unwrap();
    store.create(&new(&["dba"])).unwrap();
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        let mode = std::fs::metadata(path.with_file_name(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let link = path.with_file_name("link.sqlite");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(StateStore::open(&link), Err(StateError::File(_))));
}

#[test]
fn what_was_stored_is_read_back_after_a_restart() {
    let path = file();
    let id = StateStore::open(&path)
        .unwrap()
        .create(&new(&["dba"]))
        .unwrap();
    let row = StateStore::open(&path).unwrap().get(id).unwrap().unwrap();
    assert_eq!(row.new, new(&["dba"]));
    assert_eq!(row.state, ApprovalState::Pending);
}

#[test]
fn an_approval_is_used_exactly_once() {
    let mut store = store();
    let id = store.create(&new(&["dba"])).unwrap();
    assert!(
        !store.mark_used(id, at(1_100)).unwrap(),
        "pending cannot be used"
    );
    let row = store
        .decide(id, &says(true, "rev", &["dba"]), at(1_500))
        .unwrap();
    assert_eq!(
        (row.state, row.approver.as_str()),
        (ApprovalState::Approved, "rev")
    );
    let first = store.claim(id, at(1_600)).unwrap().unwrap();
    assert_eq!(first.state, ApprovalState::Approved);
    assert_eq!(
        store.claim(id, at(1_600)).unwrap().unwrap().state,
        ApprovalState::Used
    );
    assert!(
        store
            .take_prior_decision(&key(), at(1_600))
            .unwrap()
            .is_none()
    );
}

#[test]
fn every_group_has_to_approve_and_one_denial_ends_it() {
    let mut store = store();
    let id = store.create(&new(&["dba", "security"])).unwrap();
    let row = store
        .decide(id, &says(true, "one", &["dba"]), at(1_500))
        .unwrap();
    assert_eq!(row.state, ApprovalState::Pending);
    assert!(matches!(
        store.decide(id, &says(true, "one", &["dba"]), at(1_500)),
        Err(StateError::AlreadyApproved)
    ));
    let row = store
        .decide(id, &says(true, "two", &["security"]), at(1_501))
        .unwrap();
    assert_eq!(
        (row.state, row.approver.as_str()),
        (ApprovalState::Approved, "one, two")
    );

    let id = store.create(&new(&["dba", "security"])).unwrap();
    store
        .decide(id, &says(true, "one", &["dba"]), at(1_500))
        .unwrap();
    let row = store
        .decide(id, &says(false, "two", &["security"]), at(1_501))
        .unwrap();
    assert_eq!(row.state, ApprovalState::Denied);
    assert!(matches!(
        store.decide(id, &says(true, "two", &["security"]), at(1_502)),
        Err(StateError::NotPending(ApprovalState::Denied))
    ));
}

#[test]
fn who_may_not_decide_cannot() {
    let mut store = store();
    let id = store.create(&new(&["dba"])).unwrap();
    for oid in ["agent", "t/AGENT", "boss", ""] {
        assert!(matches!(
            store.decide(id, &says(true, oid, &["dba"]), at(1_500)),
            Err(StateError::OwnRequest)
        ));
    }
    assert!(matches!(
        store.decide(id, &says(true, "rev", &["other"]), at(1_500)),
        Err(StateError::NotReviewer)
    ));
    let mut blank = says(true, "rev", &["dba"]);
    blank.justification = " \n".into();
    assert!(matches!(
        store.decide(id, &blank, at(1_500)),
        Err(StateError::NoJustification)
    ));
    assert!(matches!(
        store.decide(id, &says(true, "rev", &["dba"]), at(2_000)),
        Err(StateError::Expired)
    ));
    assert!(matches!(
        store.decide(ApprovalId(1), &says(true, "rev", &["dba"]), at(1_500)),
        Err(StateError::NotFound)
    ));
    assert_eq!(
        store.get(id).unwrap().unwrap().state,
        ApprovalState::Pending
    );
}

#[test]
fn an_approval_that_expired_before_its_use_is_worth_nothing() {
    let mut store = store();
    let id = store.create(&new(&["dba"])).unwrap();
    store
        .decide(id, &says(true, "rev", &["dba"]), at(1_999))
        .unwrap();
    assert!(
        store
            .take_prior_decision(&key(), at(2_000))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        store.claim(id, at(2_000)).unwrap().unwrap().state,
        ApprovalState::Expired
    );
    assert_eq!(
        store.get(id).unwrap().unwrap().state,
        ApprovalState::Expired
    );
}

#[test]
fn a_decision_of_a_lost_session_serves_the_identical_request_once() {
    let path = file();
    let mut store = StateStore::open(&path).unwrap();
    let id = store.create(&new(&["dba"])).unwrap();
    drop(store);
    let mut store = StateStore::open(&path).unwrap();
    assert!(
        store
            .take_prior_decision(&key(), at(1_500))
            .unwrap()
            .is_none(),
        "undecided"
    );
    store
        .decide(id, &says(true, "rev", &["dba"]), at(1_500))
        .unwrap();
    let change: [fn(&mut PriorKey); 9] = [
        |key| key.tenant.push('x'),
        |key| key.principal.push('x'),
        |key| key.application.push('x'),
        |key| key.on_behalf_of.push('x'),
        |key| key.workload.push('x'),
        |key| key.target.push('x'),
        |key| key.database.push('x'),
        |key| key.statement.push('x'),
        |key| key.parameters.push('x'),
    ];
    for change in change {
        let mut other = key();
        change(&mut other);
        assert!(
            store
                .take_prior_decision(&other, at(1_500))
                .unwrap()
                .is_none()
        );
    }
    let prior = store
        .take_prior_decision(&key(), at(1_500))
        .unwrap()
        .unwrap();
    assert_eq!(
        (prior.approval, prior.rules),
        (id, vec!["unbounded".to_owned()])
    );
    assert!(
        store
            .take_prior_decision(&key(), at(1_500))
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_abandoned_request_cannot_be_approved_and_limits_hold() {
    let mut store = store();
    let id = store.create(&new(&["dba"])).unwrap();
    assert!(store.abandon(id, at(1_100)).unwrap());
    assert!(matches!(
        store.decide(id, &says(true, "rev", &["dba"]), at(1_500)),
        Err(StateError::NotPending(ApprovalState::Abandoned))
    ));
    assert!(matches!(store.create(&new(&[])), Err(StateError::NoGroups)));
    let mut large = new(&["dba"]);
    large.statement = "x".repeat(4 * 1024 * 1024);
    assert!(matches!(store.create(&large), Err(StateError::TooLarge)));
    assert_eq!(store.list().unwrap().len(), 1);
}

fn lasting(for_us: i64) -> NewApproval {
    let now = weir_clock::now().wall_us;
    NewApproval {
        created_us: now,
        expires_us: now + for_us,
        ..new(&["dba"])
    }
}

#[tokio::test]
async fn a_waiter_wakes_with_the_decision() {
    let state = State::open(&file()).unwrap();
    let id = state.create(lasting(60_000_000)).await.unwrap();
    let waiter = tokio::spawn({
        let state = state.clone();
        async move { state.decided(id).await }
    });
    tokio::task::yield_now().await;
    state
        .decide(id, says(true, "rev", &["dba"]), weir_clock::now())
        .await
        .unwrap();
    let decided = waiter.await.unwrap().unwrap();
    assert_eq!(
        (decided.state, decided.approver.as_str()),
        (ApprovalState::Approved, "rev")
    );
    assert_eq!(
        state.get(id).await.unwrap().unwrap().state,
        ApprovalState::Used
    );
}

#[tokio::test]
async fn a_waiter_ends_when_the_time_is_over_or_the_client_left() {
    let state = State::open(&file()).unwrap();
    let id = state.create(lasting(30_000)).await.unwrap();
    assert_eq!(
        state.decided(id).await.unwrap().state,
        ApprovalState::Expired
    );
    let id = state.create(lasting(60_000_000)).await.unwrap();
    let (decided, abandoned) = tokio::join!(state.decided(id), state.abandon(id));
    assert!(abandoned.unwrap());
    assert_eq!(decided.unwrap().state, ApprovalState::Abandoned);
}
