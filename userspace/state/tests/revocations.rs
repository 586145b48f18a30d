//! The kill list over restarts.

use weir_model::ident::RevokedKind;
use weir_state::{Revocation, StateError, StateStore};

fn path(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-revoked-{}-{name}", std::process::id()));
    let _gone = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("state.sqlite")
}

fn entry(value: &str) -> Revocation {
    Revocation {
        kind: RevokedKind::Principal,
        value: value.to_owned(),
        by: "someone".to_owned(),
        reason: "ticket".to_owned(),
        at_us: 1,
    }
}

#[test]
fn entries_survive_and_can_be_lifted() {
    let path = path("survive");
    let mut store = StateStore::open(&path).unwrap();
    store.revoke(&entry("a")).unwrap();
    store
        .revoke(&Revocation {
            at_us: 9,
            ..entry("a")
        })
        .unwrap();
    drop(store);
    let mut store = StateStore::open(&path).unwrap();
    assert_eq!(
        store.revocations().unwrap(),
        [entry("a")],
        "the first one stands"
    );
    assert!(
        !store.lift(RevokedKind::Workload, "a").unwrap(),
        "another kind"
    );
    assert!(store.lift(RevokedKind::Principal, "a").unwrap());
    assert_eq!(store.revocations().unwrap(), []);
}

#[test]
fn a_reason_is_needed_and_texts_have_limits() {
    let mut store = StateStore::open(&path("limits")).unwrap();
    let without = Revocation {
        reason: " ".to_owned(),
        ..entry("a")
    };
    assert!(matches!(
        store.revoke(&without),
        Err(StateError::NoJustification)
    ));
    let long = entry(&"x".repeat(257));
    assert!(matches!(store.revoke(&long), Err(StateError::TooLarge)));
}

#[test]
fn a_store_of_the_first_layout_gets_the_table() {
    let path = path("old");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch(include_str!("layout_1.sql")).unwrap();
    drop(db);
    let mut store = StateStore::open(&path).unwrap();
    store.revoke(&entry("a")).unwrap();
    assert_eq!(store.revocations().unwrap().len(), 1);
    // What was held and decided then is there, with what it lacked.
    let rows = store.list().unwrap();
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!(
        (row.new.approvals, row.new.exact, row.votes.len()),
        (1, false, 1)
    );
}

#[test]
fn an_unreadable_entry_fails_the_whole_list() {
    let path = path("corrupt");
    let mut store = StateStore::open(&path).unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("insert into revocations values ('magic', 'a', 'b', 'c', 1)")
        .unwrap();
    assert!(matches!(store.revocations(), Err(StateError::Corrupt(_))));
}
