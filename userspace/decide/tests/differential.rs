//! What is compiled from policies answers as Cedar does: random policies, random requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use weir_decide::{Engine, Lifted, Outcome, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::time::Now;
use weir_postgres::vocabulary::VOCABULARY;

const GROUPS: [&str; 3] = [
    "9a000000-0000-4000-8000-000000000001",
    "9a000000-0000-4000-8000-000000000002",
    "9a000000-0000-4000-8000-000000000003",
];
const TABLES: [&str; 4] = [
    "public/orders",
    "public/customers",
    "vault/keys",
    "public/a%2Fb",
];
const COLUMNS: [&str; 3] = ["id", "email", "sec%25ret"];
const OBJECTS: [&str; 8] = [
    r#"Weir::Target::"demo""#,
    r#"Weir::Target::"other""#,
    r#"Postgres::Database::"demo/shop""#,
    r#"Postgres::Schema::"demo/shop/public""#,
    r#"Postgres::Schema::"demo/shop/vault""#,
    r#"Postgres::Table::"demo/shop/public/orders""#,
    r#"Postgres::Table::"demo/shop/public/a%2Fb""#,
    r#"Postgres::Column::"demo/shop/public/customers/email""#,
];
const ON_TABLES: [&str; 4] = ["select", "insert", "update", "delete"];
const ON_COLUMNS: [&str; 3] = ["readColumn", "usePredicate", "writeColumn"];

fn group() -> impl Strategy<Value = String> {
    prop_oneof![
        select(GROUPS.to_vec()).prop_map(|id| format!(r#"Weir::Group::"{id}""#)),
        Just(r#"Weir::Group::"readers""#.to_owned()),
        Just(r#"Weir::Role::"Agent.Run""#.to_owned()),
        Just(r#"Weir::Application::"app""#.to_owned()),
    ]
}

fn principal_scope() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("principal".to_owned()),
        4 => group().prop_map(|group| format!("principal in {group}")),
        1 => Just(r#"principal == Weir::Agent::"t/me""#.to_owned()),
        1 => Just("principal is Weir::Agent".to_owned()),
        1 => group().prop_map(|group| format!("principal is Weir::Agent in {group}")),
    ]
}

/// Actions of one kind of object, so that strict validation accepts every condition on it.
fn action_scope(columns: bool) -> impl Strategy<Value = String> {
    let names = if columns {
        ON_COLUMNS.to_vec()
    } else {
        ON_TABLES.to_vec()
    };
    let all = names.clone();
    prop_oneof![
        select(names.clone()).prop_map(|name| format!(r#"action == Postgres::Action::"{name}""#)),
        prop::sample::subsequence(all, 1..3).prop_map(|names| {
            let list: Vec<String> = names
                .iter()
                .map(|name| format!(r#"Postgres::Action::"{name}""#))
                .collect();
            format!("action in [{}]", list.join(", "))
        }),
    ]
}

fn resource_scope(columns: bool) -> impl Strategy<Value = String> {
    let above: Vec<&str> = OBJECTS
        .iter()
        .copied()
        .filter(|one| columns || !one.contains("Column"))
        .collect();
    prop_oneof![
        2 => Just("resource".to_owned()),
        4 => select(above).prop_map(|object| format!("resource in {object}")),
        1 => Just(if columns {
            r#"resource == Postgres::Column::"demo/shop/public/customers/email""#.to_owned()
        } else {
            r#"resource == Postgres::Table::"demo/shop/public/orders""#.to_owned()
        }),
    ]
}

fn atom(columns: bool) -> BoxedStrategy<String> {
    let in_objects = OBJECTS
        .iter()
        .copied()
        .filter(|one| columns || !one.contains("Column"));
    let in_objects: Vec<&str> = in_objects.collect();
    prop_oneof![
        group().prop_map(|group| format!("principal in {group}")),
        (group(), group()).prop_map(|(a, b)| format!("principal in [{a}, {b}]")),
        select(in_objects.clone()).prop_map(|object| format!("resource in {object}")),
        (select(in_objects.clone()), select(in_objects))
            .prop_map(|(a, b)| format!("(resource in {a} || resource in {b})")),
        Just(if columns {
            r#"[Postgres::Column::"demo/shop/public/customers/email", Postgres::Column::"demo/shop/vault/keys/id"].contains(resource)"#
        } else {
            r#"[Postgres::Table::"demo/shop/public/orders", Postgres::Table::"demo/shop/vault/keys"].contains(resource)"#
        }.to_owned()),
        select(vec!["or*", "*s", "*/*", "e*ail", "*%*", "id"])
            .prop_map(|pattern| format!(r#"resource.name like "{pattern}""#)),
        select(vec!["orders", "id", "email"]).prop_map(|name| format!(r#"resource.name == "{name}""#)),
        Just(r#"["id", "orders"].contains(resource.name)"#.to_owned()),
        Just("context.unbounded".to_owned()),
        Just("context.readOnly == context.returning".to_owned()),
        Just(r#"["SELECT", "DELETE"].contains(context.statement)"#.to_owned()),
        select(vec!["==", "!=", "<", "<=", ">", ">="])
            .prop_map(|operator| format!("context.joins {operator} 2")),
        // Overflows for some requests: the policy errs, and everything is denied.
        Just("context.joins + 9223372036854775807 > 0".to_owned()),
        Just("context.joins * 3 - 1 > -context.joins".to_owned()),
        Just("(context has limit && context.limit <= 100)".to_owned()),
        Just("!(context has limit)".to_owned()),
        Just("(if context has limit then context.limit > 5 else context.unbounded)".to_owned()),
        Just(r#"principal.kind == "application""#.to_owned()),
        Just(r#"(principal has onBehalfOf && principal.onBehalfOf == "boss")"#.to_owned()),
        Just(r#"principal.workload like "w*""#.to_owned()),
        select(vec![20_260_101, 20_270_101]).prop_map(|date| format!("context.date < {date}")),
        Just("(context.weekday >= 6 || context.time < 600)".to_owned()),
        select(vec!["==", "!=", "<", "<=", ">", ">="])
            .prop_map(|operator| format!("context.time {operator} 1200")),
        Just("[1, 3, 7].contains(context.weekday)".to_owned()),
        Just("context.time - context.weekday > 1100".to_owned()),
        // Outside the compiled subset: Cedar is asked.
        Just(r#"(ip("10.0.0.1").isInRange(ip("10.0.0.0/8")) && context.unbounded)"#.to_owned()),
    ]
    .boxed()
}

fn condition(columns: bool) -> impl Strategy<Value = String> {
    atom(columns).prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn annotation() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        6 => Just(("permit", "")),
        2 => Just(("forbid", "")),
        1 => Just(("forbid", r#"@hold("dba")"#)),
        1 => Just(("forbid", r#"@hold("sre") @approvals("2")"#)),
        1 => Just(("forbid", r#"@limit("rows:10")"#)),
        1 => Just(("forbid", r#"@budget("rows:10 per 1h")"#)),
        1 => Just(("forbid", r#"@mask("hash")"#)),
        1 => Just(("forbid", r#"@mask("redact")"#)),
        1 => Just(("permit", r#"@predicate("masked")"#)),
    ]
}

fn policy() -> impl Strategy<Value = String> {
    (any::<bool>(), annotation()).prop_flat_map(|(columns, (effect, annotation))| {
        let conditions = prop::collection::vec((any::<bool>(), condition(columns)), 0..3);
        (
            principal_scope(),
            action_scope(columns),
            resource_scope(columns),
            conditions,
        )
            .prop_map(move |(principal, action, resource, conditions)| {
                let action = if annotation.contains("mask") && !annotation.contains("predicate") {
                    r#"action == Postgres::Action::"readColumn""#.to_owned()
                } else if annotation.contains("predicate") {
                    r#"action == Postgres::Action::"usePredicate""#.to_owned()
                } else {
                    action
                };
                // A policy on columns has to name actions on columns.
                let resource = if action.contains("Column") || action.contains("Predicate") {
                    resource
                } else {
                    resource
                        .replace("Postgres::Column", "Postgres::Table")
                        .replace("/customers/email", "/customers")
                };
                let mut text = format!("{annotation} {effect} ({principal}, {action}, {resource})");
                for (when, condition) in conditions {
                    let word = if when { "when" } else { "unless" };
                    let _infallible = write!(text, " {word} {{ {condition} }}");
                }
                text + ";"
            })
    })
}

fn object(path: &str, kind: &'static str) -> Object {
    let segments = format!("demo/shop/{path}");
    Object {
        kind,
        path: segments
            .split('/')
            .map(|part| Arc::from(part.replace("%2F", "/").replace("%25", "%")))
            .collect(),
    }
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        (select(ON_TABLES.to_vec()), select(TABLES.to_vec())).prop_map(|(action, table)| Access {
            action,
            object: object(table, "Table"),
        }),
        (
            select(ON_COLUMNS.to_vec()),
            select(TABLES.to_vec()),
            select(COLUMNS.to_vec())
        )
            .prop_map(|(action, table, column)| Access {
                action,
                object: object(&format!("{table}/{column}"), "Column"),
            }),
    ]
}

prop_compose! {
    fn intent()(
        accesses in prop::collection::vec(access(), 1..5),
        flags in any::<[bool; 4]>(),
        joins in 0i64..4,
        limit in prop::option::of(0i64..200),
        statement in select(vec!["SELECT", "DELETE", "UPDATE"]),
    ) -> Arc<Intent> {
        let [read_only, unbounded, returning, other] = flags;
        let mut context = vec![
            ("statement", AttrValue::String(Arc::from(statement))),
            ("readOnly", AttrValue::Bool(read_only)),
            ("unbounded", AttrValue::Bool(unbounded)),
            ("returning", AttrValue::Bool(returning)),
            ("joins", AttrValue::Long(joins)),
            ("hasUnknownFunction", AttrValue::Bool(other)),
            ("securityDefiner", AttrValue::Bool(false)),
            ("triggers", AttrValue::Bool(false)),
        ];
        context.extend(limit.map(|limit| ("limit", AttrValue::Long(limit))));
        Arc::new(Intent::new(accesses, context))
    }
}

prop_compose! {
    fn principal()(
        groups in prop::sample::subsequence(GROUPS.to_vec(), 0..=3),
        role in any::<bool>(),
        person in any::<bool>(),
        boss in any::<bool>(),
        workload in select(vec!["w", "x"]),
    ) -> Principal {
        Principal {
            kind: if person { PrincipalKind::Person } else { PrincipalKind::Application },
            cloud: Arc::from("lab"),
            tenant: Arc::from("t"),
            oid: Arc::from("me"),
            app: Arc::from("app"),
            roles: role.then(|| Arc::from("Agent.Run")).into_iter().collect(),
            groups: Groups::Known(groups.into_iter().map(Arc::from).collect()),
            on_behalf_of: boss.then(|| Arc::from("boss")),
            token_id: Arc::from(""),
            evidence: EvidenceKind::Federated,
            workload: Arc::from(workload),
            valid_until_s: i64::MAX,
        }
    }
}

fn settings() -> PolicySettings {
    PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned(), "sre".to_owned()]),
        targets: vec!["demo".to_owned(), "other".to_owned()],
        group_aliases: BTreeMap::from([("readers".to_owned(), GROUPS[0].to_owned())]),
    }
}

/// Those of the policies that validation accepts: what is impossible it refuses.
fn set(policies: &[String]) -> Option<Arc<PolicySet>> {
    let mut lines: Vec<(usize, &String)> = policies.iter().enumerate().collect();
    // A refused one may hide what is wrong with another.
    for _again in 0..policies.len() {
        let text = lines
            .iter()
            .map(|(number, text)| format!("@id(\"p{number:02}\") {text}\n"));
        let source = PolicySource {
            name: "a.cedar".to_owned(),
            text: text.collect(),
        };
        match PolicySet::compile(&[source], &[&VOCABULARY], &settings()) {
            Ok(_) if lines.is_empty() => return None,
            Ok(set) => return Some(Arc::new(set)),
            Err(problems) => {
                let wrong: BTreeSet<usize> = problems.iter().map(|one| one.line).collect();
                let mut line = 0;
                lines.retain(|_| {
                    line += 1;
                    !wrong.contains(&line)
                });
            }
        }
    }
    None
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Permit(permit) => {
            format!("permit by {}: {:?}", permit.rule(), permit.obligations())
        }
        Outcome::Denial(denial) => format!("{denial:?}"),
        Outcome::Hold(needed) => format!("{needed:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn compiled_policies_answer_as_cedar_does(
        policies in prop::collection::vec(policy(), 1..12),
        who in principal(),
        intents in prop::collection::vec(intent(), 1..8),
        day in 19_000i64..22_000,
        minutes in prop::collection::vec(0i64..3 * 1440, 1..5),
    ) {
        let Some(set) = set(&policies) else {
            return Ok(());
        };
        let target = TargetRef { name: Arc::from("demo"), namespace: "Postgres" };
        let mut compiled = set.bind(&who, &target);
        let mut cedar = set.bind_by(&who, &target, Engine::Cedar);
        // Each of them again at other times: what was kept may be another answer then.
        let asked = minutes.iter().flat_map(|minute| intents.iter().map(move |intent| (*minute, intent)));
        for (minute, intent) in asked {
            let now = Now { mono_us: 0, wall_us: (day * 1440 + minute) * 60_000_000 };
            let ask = |bound: &mut weir_decide::Bound| {
                bound.decide(1, SessionId(1), intent, &Lifted::none(), now)
            };
            let (ours, oracle) = (ask(&mut compiled), ask(&mut cedar));
            prop_assert_eq!(shown(&ours), shown(&oracle), "{}", policies.join("\n"));
            // Kept answers are the same answers.
            prop_assert_eq!(shown(&ask(&mut compiled)), shown(&ours));
            // Asked without a context, Cedar fails at what every context has; the index knows that the
            // rule is about other objects before that.
            let of_context = policies.iter().any(|policy| policy.contains("context"));
            for access in &intent.accesses {
                let (ours, oracle) = (compiled.masks(&access.object), cedar.masks(&access.object));
                prop_assert!(ours == oracle || (of_context && oracle), "{}", policies.join("\n"));
            }
        }
    }
}
