//! The starter policies decide as their comments say.

use std::sync::Arc;

use proptest::prelude::*;
use weir_decide::{Bound, Denial, Lifted, MaskKind, Outcome, Permit, PolicySource};
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::request::{Access, Intent};
use weir_postgres::vocabulary::VOCABULARY;

#[path = "starter/shop.rs"]
mod shop;

use shop::{ANALYSTS, NOW, OPERATORS, access, bind, compile, decide, intent, object, sources};

fn agent(groups: &[&str]) -> Bound {
    bind(&compile(&sources()), groups)
}

fn permit(bound: &mut Bound, accesses: Vec<Access>) -> Permit {
    match decide(bound, &intent(accesses, false)) {
        Outcome::Permit(permit) => permit,
        other @ (Outcome::Denial(_) | Outcome::Hold(_)) => panic!("{other:?}"),
    }
}

fn denial(bound: &mut Bound, accesses: Vec<Access>) -> Denial {
    match decide(bound, &intent(accesses, false)) {
        Outcome::Denial(denial) => denial,
        other @ (Outcome::Permit(_) | Outcome::Hold(_)) => panic!("{other:?}"),
    }
}

/// What a session of PostgreSQL asks before it makes its transactions read-only.
fn never_writes(bound: &Bound) -> bool {
    bound.never_permits(&weir_decide::Never {
        actions: &[
            "insert", "update", "delete", "truncate", "call", "create", "doBlock",
        ],
        context: &[("readOnly", weir_model::request::AttrValue::Bool(false))],
        spared: |object| {
            let name = object.path.last().map_or("", |name| name);
            name.starts_with("pg_advisory_")
        },
    })
}

#[test]
fn analysts_never_write_and_operators_may() {
    assert!(never_writes(&agent(&[ANALYSTS])));
    assert!(!never_writes(&agent(&[OPERATORS])));
    assert!(!never_writes(&agent(&[ANALYSTS, OPERATORS])));
    assert!(never_writes(&agent(&[])));
    assert!(!never_writes(&agent(&[ANALYSTS]).observing()));
}

fn column(action: &'static str, path: &str) -> Access {
    access(action, "Column", path)
}

#[test]
fn every_policy_says_why() {
    for source in sources() {
        let ids = source.text.matches("\n@id(").count();
        let reasons = source.text.matches("\n@reason(").count();
        let forbids = source.text.matches("\nforbid (").count();
        let advice = source.text.matches("\n@advice(").count();
        assert!(ids > 0, "{}", source.name);
        assert_eq!((ids, forbids), (reasons, advice), "{}", source.name);
    }
}

#[test]
fn both_groups_read_with_masks() {
    // Who may write addresses could look up what each becomes: no digests for operators.
    for (group, email) in [(ANALYSTS, MaskKind::Hash), (OPERATORS, MaskKind::Redact)] {
        let mut bound = agent(&[group]);
        let permit = permit(
            &mut bound,
            vec![
                access("select", "Table", "public/customers"),
                access("select", "Table", "public/customer_orders"),
                column("readColumn", "public/customers/id"),
                column("readColumn", "public/customers/ssn"),
                column("readColumn", "public/customers/card"),
                column("readColumn", "public/customers/email"),
                column("readColumn", "public/customer_orders/contact"),
                column("usePredicate", "public/customers/id"),
            ],
        );
        let masks: Vec<(String, MaskKind, &str)> = permit
            .obligations()
            .masks
            .iter()
            .map(|(object, mask)| (object.id(), mask.kind, &*mask.rule))
            .collect();
        let expected = [
            ("customer_orders/contact", email, "mask-contact"),
            (
                "customers/card",
                MaskKind::Partial { keep_last: 4 },
                "mask-card",
            ),
            ("customers/email", email, "mask-email"),
            ("customers/ssn", MaskKind::Redact, "mask-ssn"),
        ]
        .map(|(path, kind, rule)| (format!("demo/shop/public/{path}"), kind, rule));
        assert_eq!(masks, expected);
        assert_eq!(permit.rule(), "read-shop");
    }
}

#[test]
fn masked_columns_decide_nothing() {
    for group in [ANALYSTS, OPERATORS] {
        let mut bound = agent(&[group]);
        for path in [
            "customers/ssn",
            "customers/card",
            "customers/email",
            "customer_orders/contact",
        ] {
            let access = column("usePredicate", &format!("public/{path}"));
            let denial = denial(&mut bound, vec![access.clone()]);
            assert_eq!(&*denial.rule, "weir:masked-predicate");
            assert_eq!(denial.access, Some(access));
        }
    }
}

#[test]
fn a_permit_can_lift_the_protection_of_predicates() {
    let mut sources = sources();
    let lift = r#"permit (
        principal in Weir::Group::"operators",
        action == Postgres::Action::"usePredicate",
        resource == Postgres::Column::"demo/shop/public/customers/email");"#;
    sources.push(PolicySource {
        name: "80.cedar".to_owned(),
        text: format!("@id(\"find\") @reason(\"r\") {lift}"),
    });
    let predicate = || vec![column("usePredicate", "public/customers/email")];
    // Naming usePredicate is not enough.
    let mut bound = bind(&compile(&sources), &[OPERATORS]);
    assert_eq!(
        &*denial(&mut bound, predicate()).rule,
        "weir:masked-predicate"
    );
    sources.last_mut().unwrap().text =
        format!("@id(\"find\") @reason(\"r\") @predicate(\"masked\") {lift}");
    let set = compile(&sources);
    permit(&mut bind(&set, &[OPERATORS]), predicate());
    assert_eq!(
        &*denial(&mut bind(&set, &[ANALYSTS]), predicate()).rule,
        "weir:masked-predicate"
    );
}

#[test]
fn only_operators_write() {
    let write = || {
        vec![
            access("insert", "Table", "public/orders"),
            column("writeColumn", "public/orders/note"),
        ]
    };
    assert_eq!(
        permit(&mut agent(&[OPERATORS]), write()).rule(),
        "write-shop"
    );
    assert_eq!(
        &*denial(&mut agent(&[ANALYSTS]), write()).rule,
        "weir:no-permit"
    );
}

#[test]
fn unbounded_deletes_wait_for_dba() {
    let mut bound = agent(&[OPERATORS]);
    let delete = || vec![access("delete", "Table", "public/orders")];
    permit(&mut bound, delete());
    let all = intent(delete(), true);
    for _cached in 0..2 {
        let Outcome::Hold(hold) = decide(&mut bound, &all) else {
            panic!("not held");
        };
        assert_eq!(hold.rules, [Arc::from("unbounded-write")]);
        assert_eq!(hold.groups, [Arc::from("dba")]);
    }
    let lifted = Lifted::approved(ApprovalId(7), vec![Arc::from("unbounded-write")]);
    let Outcome::Permit(permit) = bound.decide(2, SessionId(1), &all, &lifted, NOW) else {
        panic!("not permitted");
    };
    assert_eq!(permit.approval(), Some(ApprovalId(7)));
    // An approval is used once by whoever passes it; it leaves nothing behind.
    assert!(matches!(decide(&mut bound, &all), Outcome::Hold(_)));
    // Another rule's approval lifts nothing.
    let other = Lifted::approved(ApprovalId(8), vec![Arc::from("no-drop")]);
    assert!(matches!(
        bound.decide(3, SessionId(1), &all, &other, NOW),
        Outcome::Hold(_)
    ));
}

#[test]
fn destruction_is_denied_by_its_own_rule() {
    let cases = [
        ("drop", "Table", "public/orders", "no-drop"),
        ("truncate", "Table", "public/orders", "no-truncate"),
        ("alter", "Table", "public/orders", "no-alter"),
        ("create", "Table", "public/other", "no-alter"),
        ("grant", "Table", "public/orders", "no-grant"),
        ("createRole", "Role", "mallory", "no-roles"),
        ("doBlock", "Database", "", "no-code-block"),
        ("readFile", "File", "?", "no-files"),
        ("runProgram", "Program", "?", "no-programs"),
        ("alterSystem", "Setting", "work_mem", "no-server-settings"),
        ("callUnknown", "Function", "?/f", "no-unknown-functions"),
        ("largeObject", "Database", "", "no-side-channels"),
        (
            "call",
            "Function",
            "pg_catalog/query_to_xml",
            "no-dangerous-functions",
        ),
    ];
    for groups in [&[ANALYSTS][..], &[OPERATORS], &[ANALYSTS, OPERATORS], &[]] {
        let mut bound = agent(groups);
        for (action, kind, path, rule) in cases {
            let denial = denial(&mut bound, vec![access(action, kind, path)]);
            assert_eq!(&*denial.rule, rule);
            assert!(denial.advice.is_some());
        }
        let lifted = Lifted::approved(ApprovalId(1), vec![Arc::from("no-drop")]);
        let drop = intent(vec![access("drop", "Table", "public/orders")], false);
        assert!(matches!(
            bound.decide(1, SessionId(1), &drop, &lifted, NOW),
            Outcome::Denial(_)
        ));
    }
}

#[test]
fn the_catalog_is_open_but_for_values_and_secrets() {
    for group in [ANALYSTS, OPERATORS] {
        let mut bound = agent(&[group]);
        permit(
            &mut bound,
            vec![
                access("select", "Table", "pg_catalog/pg_class"),
                column("readColumn", "pg_catalog/pg_class/relname"),
                column("usePredicate", "pg_catalog/pg_class/relname"),
                access("select", "Table", "information_schema/tables"),
            ],
        );
        for table in ["pg_stats", "pg_statistic", "pg_authid", "pg_shadow"] {
            for access in [
                access("select", "Table", &format!("pg_catalog/{table}")),
                column("readColumn", &format!("pg_catalog/{table}/x")),
                column("usePredicate", &format!("pg_catalog/{table}/x")),
            ] {
                assert_eq!(&*denial(&mut bound, vec![access]).rule, "closed-catalog");
            }
        }
        let other = access("select", "Table", "private/x");
        assert_eq!(&*denial(&mut bound, vec![other]).rule, "weir:no-permit");
    }
}

#[test]
fn ordinary_sessions_work() {
    for group in [ANALYSTS, OPERATORS] {
        let mut bound = agent(&[group]);
        for access in [
            access("transaction", "Database", ""),
            access("session", "Database", ""),
            access("explain", "Database", ""),
            access("copyOut", "Database", ""),
            access("prepare", "Prepared", "p1"),
            access("execute", "Prepared", "p1"),
            access("show", "Setting", "transaction_isolation"),
            access("set", "Setting", "extra_float_digits"),
            access("set", "Setting", "application_name"),
        ] {
            permit(&mut bound, vec![access]);
        }
        let set = access("set", "Setting", "session_replication_role");
        assert_eq!(&*denial(&mut bound, vec![set]).rule, "weir:no-permit");
    }
}

#[test]
fn strangers_get_nothing() {
    let mut bound = agent(&[]);
    for access in [
        access("select", "Table", "public/customers"),
        access("transaction", "Database", ""),
        access("select", "Table", "pg_catalog/pg_class"),
    ] {
        assert_eq!(&*denial(&mut bound, vec![access]).rule, "weir:no-permit");
    }
    assert_eq!(&*denial(&mut bound, Vec::new()).rule, "weir:no-permit");
}

#[test]
fn an_access_that_does_not_fit_is_refused() {
    let mut bound = agent(&[OPERATORS]);
    for access in [
        access("select", "Table", "customers"),
        access("select", "Tabel", "public/customers"),
    ] {
        assert_eq!(&*denial(&mut bound, vec![access]).rule, "weir:policy-error");
    }
}

fn any_access() -> impl Strategy<Value = Access> {
    let names = prop::sample::select(vec![
        "public",
        "pg_catalog",
        "customers",
        "orders",
        "customer_orders",
        "pg_stats",
        "ssn",
        "card",
        "email",
        "contact",
        "id",
        "work_mem",
        "nextval",
        "a/%2F\"",
    ]);
    let customers = (
        prop::sample::select(vec!["readColumn", "usePredicate"]),
        prop::sample::select(vec!["id", "ssn", "card", "email"]),
    )
        .prop_map(|(action, name)| column(action, &format!("public/customers/{name}")));
    let anything = (
        prop::sample::select(VOCABULARY.actions),
        prop::sample::select(VOCABULARY.objects),
        prop::collection::vec(names, 0..4),
    )
        .prop_map(|(action, kind, path)| Access {
            action: action.name,
            object: object(kind.name, &path.join("/")),
        });
    let fitting = (
        prop::sample::select(VOCABULARY.actions),
        prop::sample::select(vec!["orders", "customers", "customer_orders"]),
    )
        .prop_filter_map("acts on tables", |(action, table)| {
            action
                .on
                .contains(&"Table")
                .then(|| access(action.name, "Table", &format!("public/{table}")))
        });
    prop_oneof![customers, anything, fitting]
}

fn any_intent() -> impl Strategy<Value = Arc<Intent>> {
    (prop::collection::vec(any_access(), 0..5), any::<bool>())
        .prop_map(|(accesses, unbounded)| intent(accesses, unbounded))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cached_decisions_equal_fresh_ones(
        intents in prop::collection::vec(any_intent(), 1..6),
        groups in prop::sample::subsequence(vec![ANALYSTS, OPERATORS], 0..=2),
        lift in any::<bool>(),
    ) {
        static SET: std::sync::LazyLock<Arc<weir_decide::PolicySet>> =
            std::sync::LazyLock::new(|| compile(&sources()));
        let lifted = if lift {
            Lifted::approved(ApprovalId(1), vec![Arc::from("unbounded-write")])
        } else {
            Lifted::none()
        };
        let mut warm = bind(&SET, &groups);
        for intent in &intents {
            // The other lifting first, so that a cached approval would show.
            let _first = warm.decide(1, SessionId(1), intent, &Lifted::none(), NOW);
        }
        for intent in &intents {
            let cached = warm.decide(1, SessionId(1), intent, &lifted, NOW);
            let fresh = bind(&SET, &groups).decide(1, SessionId(1), intent, &lifted, NOW);
            prop_assert_eq!(format!("{cached:?}"), format!("{fresh:?}"));
        }
    }
}
