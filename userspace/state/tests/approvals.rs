//! Approvals over a real SQLite file.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use weir_model::ident::{ApprovalId, SessionId};
use weir_model::time::Now;
use weir_state::{
    ApprovalState, Decision, NewApproval, Reviewer, Standing, State, StateError, StateStore,
    TimeoutAction,
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
        approvals: 1,
        escalate_us: 0,
        escalate_groups: Vec::new(),
        at_timeout: TimeoutAction::Deny,
        shape: 0xfeed,
        exact: true,
        effect: None,
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
        grant: None,
    }
}

/// What stands already about the same request, asked by another session.
fn standing(store: &mut StateStore, wall_us: i64) -> Option<Standing> {
    let again = NewApproval {
        session: SessionId(8),
        ..new(&["dba"])
    };
    store
        .standing(&again, &BTreeSet::new(), at(wall_us))
        .unwrap()
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
    assert_eq!(standing(&mut store, 1_600), None);
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
    assert_eq!(standing(&mut store, 2_000), None);
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
    store
        .decide(id, &says(true, "rev", &["dba"]), at(1_500))
        .unwrap();
    let change: [fn(&mut NewApproval); 12] = [
        |new| new.tenant.push('x'),
        |new| new.principal.push('x'),
        |new| new.application.push('x'),
        |new| new.on_behalf_of.push('x'),
        |new| new.workload.push('x'),
        |new| new.target.push('x'),
        |new| new.database.push('x'),
        |new| new.statement.push('x'),
        |new| new.parameters.push('x'),
        |new| {
            new.accesses
                .push("delete Table:demo/shop/public/customers".into())
        },
        |new| new.rules.push("another".into()),
        |new| new.exact = false,
    ];
    for change in change {
        let mut other = new(&["dba"]);
        change(&mut other);
        let found = store.standing(&other, &BTreeSet::new(), at(1_500)).unwrap();
        assert_eq!(found, None);
    }
    let prior = Standing::Prior {
        approval: id,
        approver: "rev".to_owned(),
    };
    assert_eq!(standing(&mut store, 1_500), Some(prior));
    assert_eq!(standing(&mut store, 1_500), None, "a decision is used once");
}

#[test]
fn a_request_that_still_waits_is_taken_over_and_never_from_a_process_that_lives() {
    let path = file();
    let mut first = StateStore::open(&path).unwrap();
    first.beat("a", true, at(1_000)).unwrap();
    let id = first.create(&new(&["dba"])).unwrap();
    let mut second = StateStore::open(&path).unwrap();
    second.beat("a", false, at(1_000)).unwrap();
    assert_eq!(standing(&mut second, 1_100), None, "its process lives");
    let own: BTreeSet<ApprovalId> = [id].into();
    let asked = first.standing(&new(&["dba"]), &own, at(1_100)).unwrap();
    assert_eq!(asked, None, "somebody of this process waits for it");
    // The node starts again, with nobody beside it.
    drop(first);
    second.beat("a", true, at(1_200)).unwrap();
    assert_eq!(standing(&mut second, 1_300), Some(Standing::Pending(id)));
    let row = second.get(id).unwrap().unwrap();
    assert_eq!(
        (row.new.session, row.state),
        (SessionId(8), ApprovalState::Pending)
    );
    second
        .decide(id, &says(true, "rev", &["dba"]), at(1_500))
        .unwrap();
    let claimed = second.claim(id, at(1_500)).unwrap().unwrap();
    assert_eq!(claimed.state, ApprovalState::Approved);
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
