//! Rules that can never apply, or that something else makes pointless, are found; no others are.

use std::collections::BTreeSet;

use weir_decide::{PolicySet, PolicySettings, PolicySource};
use weir_postgres::vocabulary::VOCABULARY;

fn lints(text: &str) -> Vec<String> {
    let source = PolicySource {
        name: "a.cedar".to_owned(),
        text: text.to_owned(),
    };
    let settings = PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned()]),
        targets: vec!["demo".to_owned()],
        group_aliases: [
            ("analysts".to_owned(), "g1".to_owned()),
            ("operators".to_owned(), "g2".to_owned()),
        ]
        .into(),
    };
    let set = PolicySet::compile(&[source], &[&VOCABULARY], &settings).expect("it compiles");
    set.lints().iter().map(ToString::to_string).collect()
}

fn rule(id: &str, effect: &str, rest: &str) -> String {
    format!("@id(\"{id}\") @reason(\"r\") @advice(\"a\") {effect} {rest};\n")
}

const SELECT: &str = r#"action == Postgres::Action::"select""#;

#[track_caller]
fn finds(text: &str, words: &str) {
    let found = lints(text);
    assert!(found.iter().any(|one| one.contains(words)), "{found:?}");
}

#[track_caller]
fn clean(text: &str) {
    assert_eq!(lints(text), Vec::<String>::new());
}

#[test]
fn every_rule_says_why_and_every_forbid_what_to_do() {
    let permit = format!("permit (principal, {SELECT}, resource);");
    finds(
        &format!("@id(\"a\") {permit}"),
        "a.cedar:1:1: a has no @reason",
    );
    clean(&format!("@id(\"a\") @reason(\"r\") {permit}"));
    let forbid = format!("@id(\"b\") @reason(\"r\") forbid (principal, {SELECT}, resource);");
    finds(&forbid, "b has no @advice");
}

#[test]
fn conditions_that_exclude_each_other() {
    let with = |rest: &str| rule("a", "permit", rest);
    for rest in [
        format!(
            "(principal, {SELECT}, resource) when {{ context.unbounded && !context.unbounded }}"
        ),
        format!(
            "(principal, {SELECT}, resource) when {{ context.unbounded }} unless {{ context.unbounded }}"
        ),
        format!(
            "(principal, {SELECT}, resource) when {{ context.statement == \"A\" && context.statement == \"B\" }}"
        ),
        format!(
            "(principal, {SELECT}, resource in Postgres::Schema::\"demo/shop/public\") \
             when {{ resource in Postgres::Schema::\"demo/shop/vault\" }}"
        ),
        format!(
            "(principal == Weir::Agent::\"t/a\", {SELECT}, resource) when {{ principal == Weir::Agent::\"t/b\" }}"
        ),
    ] {
        finds(&with(&rest), "a can never apply");
    }
    for rest in [
        // A person can be in both groups, and a table in both a database and a schema.
        format!(
            "(principal in Weir::Group::\"analysts\", {SELECT}, resource) \
             when {{ principal in Weir::Group::\"operators\" }}"
        ),
        format!(
            "(principal, {SELECT}, resource in Postgres::Database::\"demo/shop\") \
             when {{ resource in Postgres::Schema::\"demo/shop/public\" }}"
        ),
    ] {
        clean(&with(&rest));
    }
}

#[test]
fn what_a_plain_forbid_covers_wholly() {
    let permit = |rest: &str| rule("a", "permit", rest);
    let forbid = |rest: &str| rule("no", "forbid", rest);
    let analysts = r#"principal in Weir::Group::"analysts""#;
    let orders = r#"resource == Postgres::Table::"demo/shop/public/orders""#;
    let public = r#"resource in Postgres::Schema::"demo/shop/public""#;
    let allowed = permit(&format!("({analysts}, {SELECT}, {orders})"));
    for wider in [
        format!("(principal, {SELECT}, resource)"),
        format!("(principal, action, {public})"),
        format!("({analysts}, {SELECT}, {orders})"),
        format!(
            "(principal, action in [Postgres::Action::\"select\", Postgres::Action::\"delete\"], {public})"
        ),
    ] {
        finds(
            &(allowed.clone() + &forbid(&wider)),
            "a permits nothing: no forbids all of it",
        );
    }
    for narrower in [
        format!("(principal in Weir::Group::\"operators\", {SELECT}, resource)"),
        format!("(principal, {SELECT}, resource) when {{ context.unbounded }}"),
        format!("(principal, {SELECT}, resource == Postgres::Table::\"demo/shop/public/other\")"),
        "(principal, action == Postgres::Action::\"delete\", resource)".to_owned(),
    ] {
        clean(&(allowed.clone() + &forbid(&narrower)));
    }
    // The same condition on both sides, and several forbids that share the actions.
    let bounded = permit(&format!(
        "(principal, {SELECT}, {orders}) when {{ context.unbounded }}"
    ));
    let narrower = forbid(&format!(
        "(principal, {SELECT}, resource) when {{ context.unbounded }}"
    ));
    finds(&(bounded + &narrower), "permits nothing");
    let two = permit(&format!(
        "(principal, action in [Postgres::Action::\"select\", Postgres::Action::\"delete\"], {orders})"
    ));
    let one = forbid(&format!("(principal, {SELECT}, resource)"));
    clean(&(two.clone() + &one));
    let other = rule(
        "no-delete",
        "forbid",
        "(principal, action == Postgres::Action::\"delete\", resource)",
    );
    finds(
        &(two + &one + &other),
        "a permits nothing: no, no-delete forbids all of it",
    );
}

#[test]
fn a_hold_on_what_is_forbidden_or_permitted_by_nobody() {
    let hold = format!(
        "@id(\"h\") @reason(\"r\") @advice(\"a\") @hold(\"dba\") forbid (principal, {SELECT}, resource);\n"
    );
    let permit = rule("a", "permit", &format!("(principal, {SELECT}, resource)"));
    clean(&(permit.clone() + &hold));
    let insert = rule(
        "b",
        "permit",
        "(principal, action == Postgres::Action::\"insert\", resource)",
    );
    finds(
        &(insert + &hold),
        "h can never apply: no policy permits any of its actions",
    );
    let forbid = rule("no", "forbid", &format!("(principal, {SELECT}, resource)"));
    finds(
        &(permit + &hold + &forbid),
        "h obliges to nothing: no forbids all of it",
    );
}

#[test]
fn the_starter_policies_are_clean() {
    // Each set by itself, as it is meant to be used, is checked by `weir policy test`.
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policies");
    let read = |name: &str| std::fs::read_to_string(format!("{directory}/{name}")).expect("a file");
    let text = [
        "10-read",
        "20-session",
        "30-catalog",
        "40-write",
        "50-personal-data",
        "60-unbounded",
        "70-destructive",
    ]
    .map(|name| read(&format!("{name}.cedar")));
    clean(&text.concat());
}
