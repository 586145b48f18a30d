//! Broken policies are refused, each with a message and a place.

use std::collections::BTreeSet;

use weir_decide::{PolicyProblem, PolicySet, PolicySettings, PolicySource};
use weir_postgres::vocabulary::VOCABULARY;

fn settings() -> PolicySettings {
    PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned()]),
        targets: vec!["demo".to_owned()],
        group_aliases: [("analysts".to_owned(), "g".to_owned())].into(),
    }
}

fn compile(text: &str) -> Result<PolicySet, Vec<PolicyProblem>> {
    let source = PolicySource {
        name: "a.cedar".to_owned(),
        text: text.to_owned(),
    };
    PolicySet::compile(&[source], &[&VOCABULARY], &settings())
}

/// The only problem of `text`.
fn problem(text: &str) -> PolicyProblem {
    let mut problems = compile(text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[track_caller]
fn says(text: &str, line: usize, words: &str) {
    let problem = problem(text);
    assert!(problem.message.contains(words), "{problem}");
    assert_eq!((problem.line, problem.file.as_str()), (line, "a.cedar"));
}

const SELECT: &str = r#"(principal, action == Postgres::Action::"select", resource);"#;
const READ: &str = r#"(principal, action == Postgres::Action::"readColumn", resource);"#;

#[test]
fn ids_are_needed_and_unique() {
    says(&format!("permit {SELECT}"), 0, "no @id");
    says(
        &format!("@id(\"a\")\npermit {SELECT}\n@id(\"weir:x\")\npermit {SELECT}"),
        3,
        "are ours",
    );
    let twice = format!("@id(\"a\") permit {SELECT}\n@id(\"a\") permit {READ}");
    assert!(problem(&twice).message.contains("used twice"));
}

#[test]
fn unknown_names_are_refused() {
    let text = r#"
@id("a") permit (principal, action == Postgres::Action::"selekt", resource);"#;
    let problems = compile(text).unwrap_err();
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|problem| problem.line == 2));
    assert!(
        problems
            .iter()
            .any(|problem| problem.message.contains("selekt"))
    );
    says(
        &format!("@id(\"a\") @hodl(\"dba\") forbid {SELECT}"),
        1,
        "@hodl",
    );
}

#[test]
fn obligations_stand_where_they_can_be_kept() {
    says(
        &format!("@id(\"a\") @hold(\"dba\") permit {SELECT}"),
        1,
        "not permit",
    );
    says(
        &format!("@id(\"a\") @hold(\"sre\") forbid {SELECT}"),
        1,
        "reviewer_groups lacks",
    );
    says(
        &format!("@id(\"a\") @hold(\"\") forbid {SELECT}"),
        1,
        "reviewer_groups lacks",
    );
    says(
        &format!("@id(\"a\") @mask(\"redact\") forbid {SELECT}"),
        1,
        "readColumn",
    );
    says(
        &format!("@id(\"a\") @mask(\"redact\") @limit(\"rows:1\") forbid {READ}"),
        1,
        "not several",
    );
    for kind in ["", "blur", "partial", "partial:9", "partial:-1", "hash:2"] {
        let text = format!("@id(\"a\") @mask(\"{kind}\") forbid {READ}");
        says(&text, 1, "@mask");
    }
}

#[test]
fn every_part_of_a_limit_is_a_number() {
    for text in [
        "rows:x",
        "rows:1,bytes:x",
        "rows:x,bytes:1",
        "",
        "rows",
        "rows:1,rows:2",
        "rows:-1",
        "rows:1,",
        "seconds:1",
    ] {
        says(
            &format!("@id(\"a\") @limit(\"{text}\") forbid {SELECT}"),
            1,
            "@limit",
        );
    }
    for text in ["rows:1", "bytes:1", "rows:1, bytes:2"] {
        compile(&format!("@id(\"a\") @limit(\"{text}\") forbid {SELECT}")).unwrap();
    }
}

#[test]
fn what_is_recorded_is_head_tail_or_all() {
    for text in [
        "",
        "rows:1",
        "head",
        "head:0",
        "head:x",
        "tail:10001",
        "head:1, head:2",
        "head:1,",
        "all, tail:2",
        "none",
    ] {
        let policy = format!("@id(\"a\") @record(\"{text}\") forbid {SELECT}");
        says(&policy, 1, "@record");
    }
    for text in ["all", "head:1", "tail:10000", "head:100, tail:20"] {
        compile(&format!("@id(\"a\") @record(\"{text}\") forbid {SELECT}")).unwrap();
    }
    let both = format!("@id(\"a\") @record(\"all\") @limit(\"rows:1\") forbid {SELECT}");
    says(&both, 1, "not several");
}

#[test]
fn a_budget_has_amounts_and_a_span() {
    for text in [
        "",
        "rows:1",
        "per session",
        "rows:x per session",
        "rows:1,rows:2 per session",
        "people:1 per session",
        "rows:1 per day",
        "rows:1 per 25h",
        "rows:1, per 1h",
    ] {
        says(
            &format!("@id(\"a\") @budget(\"{text}\") forbid {SELECT}"),
            1,
            "@budget",
        );
    }
    for text in [
        "rows:1 per session",
        "rows:1, bytes:2, statements:3, seconds:4 per 24h",
        "statements:0 per 90s",
    ] {
        compile(&format!("@id(\"a\") @budget(\"{text}\") forbid {SELECT}")).unwrap();
    }
}

#[test]
fn predicates_are_lifted_only_by_name() {
    let lift = |annotation: &str, effect: &str, action: &str| {
        format!(
            "@id(\"a\") @predicate(\"{annotation}\")\n{effect} (principal, \
             action == Postgres::Action::\"{action}\", resource);"
        )
    };
    compile(&lift("masked", "permit", "usePredicate")).unwrap();
    says(&lift("all", "permit", "usePredicate"), 1, "@predicate");
    says(&lift("masked", "forbid", "usePredicate"), 1, "@predicate");
    says(&lift("masked", "permit", "readColumn"), 1, "@predicate");
}

#[test]
fn syntax_errors_have_a_line() {
    let text = format!("@id(\"a\")\npermit {SELECT}\n\n@id(\"b\")\npermit (principal, oops);\n");
    let problems = compile(&text).unwrap_err();
    assert!(!problems.is_empty());
    assert!(
        problems.iter().all(|problem| problem.line == 5),
        "{problems:?}"
    );
}

#[test]
fn names_that_no_request_has_are_refused() {
    let on = |resource: &str| {
        format!(
            "@id(\"a\")\npermit (principal, action == Postgres::Action::\"select\", {resource});"
        )
    };
    compile(&on(r#"resource in Postgres::Schema::"demo/shop/public""#)).unwrap();
    compile(&on(r#"resource in Weir::Target::"demo""#)).unwrap();
    says(
        &on(r#"resource in Weir::Target::"prod""#),
        1,
        "target prod is not configured",
    );
    says(
        &on(r#"resource in Postgres::Schema::"prod/shop/public""#),
        1,
        "target prod is not configured",
    );
    says(
        &on(r#"resource == Postgres::Table::"demo/shop/orders""#),
        1,
        "does not have 4 parts",
    );
    let group = |name: &str| {
        format!(
            "@id(\"a\") permit (principal in Weir::Group::\"{name}\", \
             action == Postgres::Action::\"select\", resource);"
        )
    };
    compile(&group("analysts")).unwrap();
    compile(&group("9a000000-0000-4000-8000-000000000009")).unwrap();
    says(&group("analyst"), 1, "group analyst");
}

#[test]
fn a_template_is_refused() {
    let text = "@id(\"a\")\npermit (principal == ?principal, action, resource);";
    assert!(problem(text).message.contains("template"));
}

#[test]
fn the_version_follows_policies_and_settings() {
    let source = |text: String| PolicySource {
        name: "a.cedar".to_owned(),
        text,
    };
    let first = [source(format!("@id(\"a\") permit {SELECT}"))];
    let version = |sources: &[PolicySource], settings: &PolicySettings| {
        PolicySet::compile(sources, &[&VOCABULARY], settings)
            .unwrap()
            .version()
    };
    let base = version(&first, &settings());
    assert_eq!(base, version(&first, &settings()));
    let mut more_groups = settings();
    more_groups.reviewer_groups.insert("sre".to_owned());
    let mut more_targets = settings();
    more_targets.targets.push("other".to_owned());
    let mut other_alias = settings();
    other_alias
        .group_aliases
        .insert("analysts".to_owned(), "h".to_owned());
    for changed in [more_groups, more_targets, other_alias] {
        assert_ne!(base, version(&first, &changed));
    }
    let second = [source(format!("@id(\"b\") permit {SELECT}"))];
    assert_ne!(base, version(&second, &settings()));
}

#[test]
fn an_effect_is_approved_only_where_it_can_be_shown() {
    let rule = |scope: &str| {
        format!(
            "@id(\"a\") @hold(\"dba\") @approve(\"effect\")\nforbid (principal, {scope}, resource);"
        )
    };
    let action = |name: &str| format!("Postgres::Action::\"{name}\"");
    let writes = [action("insert"), action("writeColumn")].join(", ");
    compile(&rule(&format!("action in [{writes}]"))).unwrap();
    for scope in [
        "action".to_owned(),
        format!("action == {}", action("truncate")),
        format!("action in [{writes}, {}]", action("select")),
    ] {
        says(
            &rule(&scope),
            1,
            "effect can be shown: Postgres::Action::\"insert\"",
        );
    }
}
