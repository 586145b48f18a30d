//! Observing says what policy would do and does not do it; masks stay, and so does what protects
//! them.

use weir_decide::{Bound, MaskKind, Outcome, Would};
use weir_model::request::Access;

#[path = "starter/shop.rs"]
mod shop;

use shop::{ANALYSTS, OPERATORS, access, bind, compile, decide, intent, sources};

fn observing(groups: &[&str]) -> Bound {
    bind(&compile(&sources()), groups).observing()
}

fn ask(bound: &mut Bound, accesses: Vec<Access>, unbounded: bool) -> Outcome {
    decide(bound, &intent(accesses, unbounded))
}

#[test]
fn what_would_be_denied_or_held_goes_through_and_is_said() {
    let mut analyst = observing(&[ANALYSTS]);
    let delete = || vec![access("delete", "Table", "public/orders")];
    let drop = || vec![access("drop", "Table", "public/orders")];
    for (bound, accesses, unbounded, would, rule) in [
        (&mut analyst, delete(), false, Would::Deny, "weir:no-permit"),
        (
            &mut observing(&[OPERATORS]),
            drop(),
            false,
            Would::Deny,
            "no-drop",
        ),
        (
            &mut observing(&[OPERATORS]),
            delete(),
            true,
            Would::Hold,
            "unbounded-write",
        ),
    ] {
        let Outcome::Permit(permit) = ask(bound, accesses, unbounded) else {
            panic!("observing refused");
        };
        let observed = permit.observed().expect("it would not have been permitted");
        assert_eq!((observed.would, &*observed.rule), (would, rule));
    }
    let read = vec![access("select", "Table", "public/orders")];
    let Outcome::Permit(permit) = ask(&mut analyst, read, false) else {
        panic!("a permitted request was refused");
    };
    assert_eq!(permit.observed(), None);
}

#[test]
fn masks_stay_also_where_the_request_would_have_been_denied() {
    let accesses = vec![
        access("drop", "Table", "public/customers"),
        access("readColumn", "Column", "public/customers/ssn"),
    ];
    let Outcome::Permit(permit) = ask(&mut observing(&[OPERATORS]), accesses, false) else {
        panic!("observing refused");
    };
    assert_eq!(
        permit.observed().map(|observed| observed.would),
        Some(Would::Deny)
    );
    let masks = &permit.obligations().masks;
    let kinds: Vec<MaskKind> = masks.values().map(|mask| mask.kind).collect();
    assert_eq!(kinds, [MaskKind::Redact]);
}

#[test]
fn a_masked_column_decides_nothing_even_then() {
    let accesses = vec![access("usePredicate", "Column", "public/customers/ssn")];
    let Outcome::Denial(denial) = ask(&mut observing(&[ANALYSTS]), accesses, false) else {
        panic!("a masked column decided which rows come back");
    };
    assert_eq!(&*denial.rule, "weir:masked-predicate");
}
