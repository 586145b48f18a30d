//! Grants: what they cover, when they are over, and the attacks on them.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::time::Now;
use weir_state::{
    ApprovalState, Decision, GrantAsk, GrantScope, NewApproval, Reviewer, Standing, State,
    StateError, StateStore, TimeoutAction,
};

const SECOND: i64 = 1_000_000;

fn file() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(uuid::Uuid::now_v7().to_string());
    std::fs::create_dir_all(&dir).unwrap();
    dir.join("state.sqlite")
}

fn store() -> StateStore {
    StateStore::open(&file()).unwrap()
}

/// Seconds after the requests of these tests were made.
const fn at(seconds: i64) -> Now {
    Now {
        mono_us: 0,
        wall_us: seconds * SECOND,
    }
}

/// The request that is approved: `delete from orders where id = 1`.
fn asked() -> NewApproval {
    NewApproval {
        created_us: 0,
        expires_us: 1800 * SECOND,
        session: SessionId(7),
        seq: 3,
        tenant: "t".into(),
        principal: "agent".into(),
        application: "app".into(),
        on_behalf_of: "boss".into(),
        workload: "operator".into(),
        target: "demo".into(),
        database: "shop".into(),
        statement: "delete from orders where id = 1".into(),
        parameters: String::new(),
        accesses: vec![
            "delete Table:demo/shop/public/orders".into(),
            "usePredicate Column:demo/shop/public/orders/id".into(),
        ],
        process: "psql (pid 4)".into(),
        rules: vec!["writes".into()],
        groups: vec!["dba".into()],
        reason: "rows go".into(),
        approvals: 1,
        escalate_us: 0,
        escalate_groups: Vec::new(),
        at_timeout: TimeoutAction::Deny,
        shape: 0xfeed,
        exact: true,
        effect: None,
    }
}

/// The same with another literal.
fn other_literal() -> NewApproval {
    NewApproval {
        statement: "delete from orders where id = 2".into(),
        ..asked()
    }
}

/// Another statement on the same objects.
fn other_shape() -> NewApproval {
    NewApproval {
        statement: "delete from orders where id > 2".into(),
        shape: 0xbeef,
        ..asked()
    }
}

/// Another table.
fn other_object() -> NewApproval {
    NewApproval {
        statement: "delete from customers".into(),
        accesses: vec!["delete Table:demo/shop/public/customers".into()],
        shape: 0xcafe,
        ..asked()
    }
}

fn elsewhere(new: NewApproval) -> NewApproval {
    NewApproval {
        session: SessionId(9),
        ..new
    }
}

fn reviewer(oid: &str, groups: &[&str]) -> Reviewer {
    Reviewer {
        tenant: "t".into(),
        oid: oid.into(),
        name: oid.into(),
        groups: groups.iter().map(ToString::to_string).collect(),
    }
}

fn says(oid: &str, groups: &[&str], grant: Option<(GrantScope, u32)>) -> Decision {
    Decision {
        approve: true,
        reviewer: reviewer(oid, groups),
        justification: "ticket 4711".into(),
        grant: grant.map(|(scope, for_s)| GrantAsk { scope, for_s }),
    }
}

/// A store in which `asked` was approved at second 10 with a grant for a minute, and used.
fn granted(scope: GrantScope) -> (StateStore, ApprovalId) {
    let mut store = store();
    store.beat("node", true, at(0)).unwrap();
    let id = store.create(&asked()).unwrap();
    store
        .decide(id, &says("rev", &["dba"], Some((scope, 60))), at(10))
        .unwrap();
    let decided = store.claim(id, at(10)).unwrap().unwrap();
    assert_eq!(decided.state, ApprovalState::Approved);
    assert_eq!(decided.grant_expires_us, Some(70 * SECOND));
    (store, id)
}

fn covered(store: &mut StateStore, new: &NewApproval, now: Now) -> bool {
    let standing = store.standing(new, &BTreeSet::new(), now).unwrap();
    matches!(standing, Some(Standing::Grant { .. }))
}

#[test]
fn each_scope_covers_what_it_says_and_nothing_else() {
    type Case = (GrantScope, [bool; 7]);
    let requests = || {
        [
            asked(),
            elsewhere(asked()),
            elsewhere(other_literal()),
            elsewhere(other_shape()),
            elsewhere(other_object()),
            other_object(),
            // Fewer objects than were approved.
            elsewhere(NewApproval {
                accesses: vec!["delete Table:demo/shop/public/orders".into()],
                ..other_shape()
            }),
        ]
    };
    let cases: [Case; 4] = [
        (
            GrantScope::Statement,
            [true, true, false, false, false, false, false],
        ),
        (
            GrantScope::Shape,
            [true, true, true, false, false, false, false],
        ),
        (
            GrantScope::Object,
            [true, true, true, true, false, false, true],
        ),
        (
            GrantScope::Session,
            [true, false, false, false, false, true, false],
        ),
    ];
    for (scope, expected) in cases {
        let (mut store, _) = granted(scope);
        let got = requests().map(|new| covered(&mut store, &new, at(20)));
        assert_eq!(got, expected, "{}", scope.label());
    }
}

#[test]
fn uses_are_counted() {
    let (mut store, id) = granted(GrantScope::Shape);
    assert!(covered(&mut store, &other_literal(), at(20)));
    assert!(covered(&mut store, &other_literal(), at(30)));
    let grant = store.grant(id).unwrap().unwrap();
    assert_eq!((grant.uses, grant.used_us), (2, Some(30 * SECOND)));
}

#[test]
fn attack_an_approval_of_statement_a_is_not_used_for_b() {
    // Neither the decision itself, nor a grant of the statement, nor one of the shape.
    let mut store = store();
    let id = store.create(&asked()).unwrap();
    store
        .decide(id, &says("rev", &["dba"], None), at(10))
        .unwrap();
    for new in [other_literal(), other_shape(), other_object()] {
        let standing = store.standing(&new, &BTreeSet::new(), at(20)).unwrap();
        assert_eq!(standing, None);
    }
    for scope in [GrantScope::Statement, GrantScope::Shape] {
        let (mut store, _) = granted(scope);
        assert!(!covered(&mut store, &other_shape(), at(20)));
        assert!(!covered(&mut store, &other_object(), at(20)));
        // The same text that is not all there is: a secret that the record leaves out.
        let unclear = NewApproval {
            exact: false,
            effect: None,
            shape: 0,
            ..asked()
        };
        assert!(!covered(&mut store, &unclear, at(20)));
        // The same text on other objects: another search_path.
        let moved = NewApproval {
            accesses: vec!["delete Table:demo/shop/other/orders".into()],
            ..asked()
        };
        assert!(!covered(&mut store, &moved, at(20)));
    }
}

#[test]
fn attack_an_approval_does_not_lift_rules_that_it_was_not_about() {
    for scope in [
        GrantScope::Statement,
        GrantScope::Shape,
        GrantScope::Object,
        GrantScope::Session,
    ] {
        let (mut store, _) = granted(scope);
        let more = NewApproval {
            rules: vec!["writes".into(), "unbounded".into()],
            ..asked()
        };
        assert!(!covered(&mut store, &more, at(20)), "{}", scope.label());
    }
}

#[test]
fn attack_a_grant_of_another_principal_is_of_no_use() {
    let change: [fn(&mut NewApproval); 7] = [
        |new| new.tenant.push('x'),
        |new| new.principal.push('x'),
        |new| new.application.push('x'),
        |new| new.on_behalf_of.push('x'),
        |new| new.workload.push('x'),
        |new| new.target.push('x'),
        |new| new.database.push('x'),
    ];
    let (mut store, _) = granted(GrantScope::Session);
    for change in change {
        let mut other = asked();
        change(&mut other);
        assert!(!covered(&mut store, &other, at(20)));
    }
}

#[test]
fn attack_a_replayed_decision_is_refused() {
    let mut store = store();
    let id = store.create(&asked()).unwrap();
    let word = says("rev", &["dba"], Some((GrantScope::Shape, 60)));
    store.decide(id, &word, at(10)).unwrap();
    // The same word again, before and after its use: nothing is approved, nothing prolonged.
    assert!(matches!(
        store.decide(id, &word, at(11)),
        Err(StateError::NotPending(ApprovalState::Approved))
    ));
    store.claim(id, at(12)).unwrap();
    assert!(matches!(
        store.decide(id, &word, at(50)),
        Err(StateError::NotPending(ApprovalState::Used))
    ));
    let grant = store.grant(id).unwrap().unwrap();
    assert_eq!(grant.expires_us, 70 * SECOND);
}

#[test]
fn attack_nobody_approves_their_own_request_or_one_made_on_their_behalf() {
    let mut store = store();
    let id = store.create(&asked()).unwrap();
    for oid in ["agent", "AGENT", "t/agent", "boss", "Boss", "t/boss", ""] {
        let word = says(oid, &["dba"], Some((GrantScope::Session, 3600)));
        let refused = store.decide(id, &word, at(10));
        assert!(matches!(refused, Err(StateError::OwnRequest)), "{oid}");
    }
    assert!(store.grants().unwrap().is_empty());
}

#[test]
fn attack_one_person_does_not_count_as_two() {
    let mut store = store();
    let new = NewApproval {
        approvals: 2,
        ..asked()
    };
    let id = store.create(&new).unwrap();
    let row = store
        .decide(id, &says("rev", &["dba"], None), at(10))
        .unwrap();
    assert_eq!(row.state, ApprovalState::Pending);
    for again in ["rev", "REV", "t/rev"] {
        let refused = store.decide(id, &says(again, &["dba"], None), at(11));
        assert!(
            matches!(refused, Err(StateError::AlreadyApproved)),
            "{again}"
        );
    }
    let row = store
        .decide(id, &says("two", &["dba"], None), at(12))
        .unwrap();
    assert_eq!(
        (row.state, row.approver.as_str()),
        (ApprovalState::Approved, "rev, two")
    );
}

#[test]
fn defect_9_a_grant_ends_at_its_last_second() {
    let (mut store, id) = granted(GrantScope::Shape);
    assert!(covered(&mut store, &other_literal(), at(69)));
    let grant = store.grant(id).unwrap().unwrap();
    assert!(grant.is_in_force(at(69)));
    // What began in the last second is over with the grant, and nothing begins any more.
    assert!(!grant.is_in_force(at(70)));
    assert!(!covered(&mut store, &other_literal(), at(70)));
    // Its use did not prolong it.
    assert_eq!(grant.expires_us, 70 * SECOND);
}

#[test]
fn a_revoked_grant_is_over_at_once_and_stays_revoked() {
    let (mut store, id) = granted(GrantScope::Shape);
    let stranger = reviewer("x", &["other"]);
    assert!(matches!(
        store.revoke_grant(id, (&stranger, "no"), at(20)),
        Err(StateError::NotReviewer)
    ));
    let dba = reviewer("two", &["dba"]);
    assert!(matches!(
        store.revoke_grant(id, (&dba, " "), at(20)),
        Err(StateError::NoJustification)
    ));
    let grant = store
        .revoke_grant(id, (&dba, "wrong table"), at(20))
        .unwrap();
    assert!(!grant.is_in_force(at(20)));
    assert!(!covered(&mut store, &other_literal(), at(20)));
    let again = store.revoke_grant(id, (&reviewer("rev", &["dba"]), "again"), at(30));
    let revoked = again.unwrap().revoked.unwrap();
    assert_eq!((revoked.by.as_str(), revoked.at_us), ("two", 20 * SECOND));
}

#[test]
fn reviewers_have_to_agree_on_a_grant() {
    let ask = |first, second| {
        let mut store = store();
        let new = NewApproval {
            approvals: 2,
            ..asked()
        };
        let id = store.create(&new).unwrap();
        store
            .decide(id, &says("one", &["dba"], first), at(10))
            .unwrap();
        store
            .decide(id, &says("two", &["dba"], second), at(10))
            .unwrap();
        let grant = store.grant(id).unwrap();
        grant.map(|grant| (grant.scope, grant.expires_us / SECOND))
    };
    let (shape, object) = (GrantScope::Shape, GrantScope::Object);
    assert_eq!(ask(Some((shape, 60)), Some((shape, 30))), Some((shape, 40)));
    assert_eq!(ask(Some((shape, 60)), Some((object, 60))), None);
    assert_eq!(ask(Some((shape, 60)), None), None);
    assert_eq!(ask(None, Some((shape, 60))), None);
}

#[test]
fn a_grant_has_a_limit_and_goes_with_an_approval() {
    let mut store = store();
    let id = store.create(&asked()).unwrap();
    for for_s in [0, 86_401] {
        let word = says("rev", &["dba"], Some((GrantScope::Shape, for_s)));
        assert!(matches!(
            store.decide(id, &word, at(10)),
            Err(StateError::BadGrant)
        ));
    }
    let mut denial = says("rev", &["dba"], Some((GrantScope::Shape, 60)));
    denial.approve = false;
    assert!(matches!(
        store.decide(id, &denial, at(10)),
        Err(StateError::BadGrant)
    ));
}

#[test]
fn after_a_while_others_may_stand_in() {
    let mut store = store();
    let new = NewApproval {
        groups: vec!["dba".into(), "security".into()],
        escalate_us: 600 * SECOND,
        escalate_groups: vec!["sre".into()],
        ..asked()
    };
    let id = store.create(&new).unwrap();
    assert!(matches!(
        store.decide(id, &says("sre", &["sre"], None), at(599)),
        Err(StateError::NotReviewer)
    ));
    let row = store
        .decide(id, &says("rev", &["dba"], None), at(599))
        .unwrap();
    assert_eq!(row.state, ApprovalState::Pending);
    let row = store
        .decide(id, &says("sre", &["sre"], None), at(600))
        .unwrap();
    assert_eq!(row.state, ApprovalState::Approved);
    // Who may not decide at all may not stand in either.
    let id = store.create(&new).unwrap();
    assert!(matches!(
        store.decide(id, &says("boss", &["sre"], None), at(600)),
        Err(StateError::OwnRequest)
    ));
}

#[test]
fn a_grant_survives_a_restart() {
    let path = file();
    let mut store = StateStore::open(&path).unwrap();
    let id = store.create(&asked()).unwrap();
    let word = says("rev", &["dba"], Some((GrantScope::Shape, 60)));
    store.decide(id, &word, at(10)).unwrap();
    store.claim(id, at(10)).unwrap();
    drop(store);
    let mut store = StateStore::open(&path).unwrap();
    assert!(covered(&mut store, &other_literal(), at(20)));
    assert!(!covered(&mut store, &other_shape(), at(20)));
}

#[tokio::test]
async fn whoever_follows_a_grant_hears_of_its_end() {
    let state = State::open(&file()).unwrap();
    let now = weir_clock::now();
    let new = NewApproval {
        created_us: now.wall_us,
        expires_us: now.wall_us + 60 * SECOND,
        ..asked()
    };
    let grant = async |for_s| {
        let id = state.create(new.clone()).await.unwrap();
        let word = says("rev", &["dba"], Some((GrantScope::Shape, for_s)));
        state.decide(id, word, weir_clock::now()).await.unwrap();
        id
    };
    // By revocation, long before its time.
    let id = grant(3600).await;
    let (over, revoked) = tokio::join!(
        state.grant_over(id),
        state.revoke_grant(id, reviewer("two", &["dba"]), "enough".into())
    );
    over.unwrap();
    revoked.unwrap();
    // By its time.
    state.grant_over(grant(1).await).await.unwrap();
    assert!(matches!(
        state.grant_over(ApprovalId(1)).await,
        Err(StateError::NotFound)
    ));
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Approve { who: u8, scope: u8, for_s: u32 },
    Revoke,
    Ask { other: bool },
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Create),
        (0u8..4, 0u8..5, 1u32..100).prop_map(|(who, scope, for_s)| Step::Approve {
            who,
            scope,
            for_s
        }),
        Just(Step::Revoke),
        any::<bool>().prop_map(|other| Step::Ask { other }),
        (0i64..50).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in whatever order: nothing is let through without an approval by somebody
    /// who may, by a grant whose time is over, or for a principal that was not asked about.
    #[test]
    fn nothing_goes_through_without_a_living_grant(steps in prop::collection::vec(step(), 1..40)) {
        let mut store = store();
        let (mut now, mut last) = (0, None);
        let mut until: Vec<(ApprovalId, i64)> = Vec::new();
        for step in steps {
            match step {
                Step::Create => {
                    let new = NewApproval { expires_us: (now + 1800) * SECOND, ..asked() };
                    last = Some(store.create(&new).unwrap());
                }
                Step::Approve { who, scope, for_s } => {
                    let Some(id) = last else { continue };
                    let who = ["agent", "boss", "rev", "two"][usize::from(who)];
                    let scopes = [GrantScope::Statement, GrantScope::Shape, GrantScope::Object,
                        GrantScope::Session];
                    let grant = scopes.get(usize::from(scope)).map(|scope| (*scope, for_s));
                    let outcome = store.decide(id, &says(who, &["dba"], grant), at(now));
                    prop_assert!(outcome.is_err() || !["agent", "boss"].contains(&who));
                    if outcome.is_ok() && grant.is_some() {
                        until.push((id, now + i64::from(for_s)));
                    }
                    // A waiter takes the decision at once.
                    store.claim(id, at(now)).unwrap();
                }
                Step::Revoke => {
                    if let Some((id, _)) = until.pop() {
                        store.revoke_grant(id, (&reviewer("two", &["dba"]), "enough"), at(now))
                            .unwrap();
                    }
                }
                Step::Ask { other } => {
                    let mut new = asked();
                    if other {
                        new.principal = "somebody else".into();
                    }
                    let waiting: BTreeSet<ApprovalId> = last.into_iter().collect();
                    let standing = store.standing(&new, &waiting, at(now)).unwrap();
                    let living = until.iter().any(|(_, end)| *end > now);
                    match standing {
                        Some(Standing::Grant { .. }) => prop_assert!(living && !other),
                        Some(Standing::Prior { .. }) => prop_assert!(false, "all were claimed"),
                        Some(Standing::Pending(_)) => prop_assert!(!other),
                        None => prop_assert!(other || !living),
                    }
                }
                Step::Wait(seconds) => now += seconds,
            }
        }
    }
}
