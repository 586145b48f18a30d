//! Sessions end when they are idle, when they are old, and when Entra's word is.

use std::sync::Arc;

use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind};

use super::*;
use crate::person::Rights;

const LIFETIMES: Lifetimes = Lifetimes {
    idle_s: 100,
    absolute_s: 1000,
    fresh_s: 50,
};

const fn at(seconds: i64) -> Now {
    Now {
        mono_us: 0,
        wall_us: seconds * 1_000_000,
    }
}

fn person(valid_until_s: i64) -> Person {
    Person {
        principal: Arc::new(Principal {
            kind: PrincipalKind::Person,
            cloud: "public".into(),
            tenant: "t".into(),
            oid: "o".into(),
            app: "a".into(),
            roles: [].into(),
            groups: Groups::Unknown,
            on_behalf_of: None,
            token_id: "".into(),
            evidence: EvidenceKind::Person,
            workload: "".into(),
            valid_until_s,
        }),
        shown: "o".to_owned(),
        groups: Vec::new(),
        rights: Rights::default(),
    }
}

#[test]
fn an_idle_session_ends_and_only_a_person_keeps_it_alive() {
    let sessions = Sessions::new(LIFETIMES);
    let cookie = sessions.open(person(10_000), at(0));
    assert!(sessions.visit(&cookie, true, at(90)).is_some());
    assert!(sessions.visit(&cookie, false, at(180)).is_some());
    assert!(sessions.visit(&cookie, false, at(190)).is_none());
    assert!(
        sessions.visit(&cookie, true, at(91)).is_none(),
        "it is gone"
    );
}

#[test]
fn a_session_ends_at_its_age_and_with_the_word_of_entra() {
    let sessions = Sessions::new(LIFETIMES);
    let old = sessions.open(person(10_000), at(0));
    for second in (0..1000).step_by(50) {
        assert!(sessions.visit(&old, true, at(second)).is_some());
    }
    assert!(sessions.visit(&old, true, at(1000)).is_none());
    let short = sessions.open(person(1040), at(1000));
    assert!(sessions.visit(&short, true, at(1040)).is_some());
    assert!(sessions.visit(&short, true, at(1041)).is_none());
}

#[test]
fn a_sign_in_is_fresh_for_a_while_whatever_is_clicked() {
    let sessions = Sessions::new(LIFETIMES);
    let cookie = sessions.open(person(10_000), at(0));
    let fresh = |second| sessions.visit(&cookie, true, at(second)).map(|v| v.fresh);
    assert_eq!(fresh(50), Some(true));
    assert_eq!(fresh(51), Some(false));
}

#[test]
fn cookies_and_form_tokens_are_all_different_and_a_closed_session_is_gone() {
    let sessions = Sessions::new(LIFETIMES);
    let (a, b) = (
        sessions.open(person(10_000), at(0)),
        sessions.open(person(10_000), at(0)),
    );
    let (in_a, in_b) = (
        sessions.visit(&a, true, at(1)).unwrap(),
        sessions.visit(&b, true, at(1)).unwrap(),
    );
    assert!(in_a.sent(&in_a.csrf) && !in_a.sent(&in_b.csrf) && !in_a.sent(""));
    assert!(sessions.visit("", true, at(1)).is_none());
    sessions.close(&a);
    assert!(sessions.visit(&a, true, at(1)).is_none());
    assert!(sessions.visit(&b, true, at(1)).is_some());
}

#[test]
fn a_sign_in_under_way_is_used_once_and_not_for_ever() {
    let sessions = Sessions::new(LIFETIMES);
    let begun = || Begun::new("state".to_owned(), Box::new(()), "/".to_owned());
    let cookie = sessions.begin(begun(), at(0));
    assert!(sessions.come_back(&cookie, at(1)).is_some());
    assert!(sessions.come_back(&cookie, at(1)).is_none());
    let late = sessions.begin(begun(), at(0));
    assert!(sessions.come_back(&late, at(600)).is_none());
}

#[test]
fn memory_has_an_end() {
    let sessions = Sessions::new(LIFETIMES);
    let first = sessions.open(person(10_000), at(0));
    for _ in 0..SESSIONS_MAX {
        sessions.open(person(10_000), at(1));
    }
    assert!(sessions.visit(&first, true, at(2)).is_none());
    assert_eq!(locked(&sessions.live).len(), SESSIONS_MAX);
    for _ in 0..=PENDING_MAX {
        sessions.begin(
            Begun::new(String::new(), Box::new(()), String::new()),
            at(0),
        );
    }
    assert_eq!(locked(&sessions.begun).len(), PENDING_MAX);
}
