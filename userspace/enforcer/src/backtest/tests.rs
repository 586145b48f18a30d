//! A candidate's changes are those that Cedar alone finds, request by request.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_decide::{Engine, PolicySet, PolicySettings, PolicySource};
use weir_model::request::{Access, AttrValue, Intent, Object, Recorded};
use weir_record::asked::AskedRow;

use super::{Backtest, Judge, Question, Undecidable};
use crate::policies::{VOCABULARIES, checked};

fn set(text: &str) -> Arc<PolicySet> {
    let source = PolicySource {
        name: "a.cedar".to_owned(),
        text: text.to_owned(),
    };
    let settings = PolicySettings {
        targets: vec!["demo".to_owned()],
        reviewer_groups: ["dba".to_owned()].into(),
        ..PolicySettings::default()
    };
    Arc::new(checked(&[source], &settings).unwrap_or_else(|problems| panic!("{problems:?}")))
}

const BEFORE: &str = r#"
@id("read") @reason("r") permit (principal, action in [Postgres::Action::"select", Postgres::Action::"readColumn"], resource in Weir::Target::"demo");
@id("write") @reason("r") permit (principal, action == Postgres::Action::"delete", resource in Weir::Target::"demo");
"#;
const AFTER: &str = r#"
@id("read") @reason("r") permit (principal, action in [Postgres::Action::"select", Postgres::Action::"readColumn"], resource in Weir::Target::"demo");
@id("write") @reason("r") permit (principal, action == Postgres::Action::"delete", resource in Weir::Target::"demo");
@id("asked-first") @reason("r") @advice("a") @hold("dba") forbid (principal, action == Postgres::Action::"delete", resource) when { context.unbounded };
@id("not-the-vault") @reason("r") @advice("a") forbid (principal, action == Postgres::Action::"select", resource == Postgres::Table::"demo/shop/public/vault");
@id("weekend") @reason("r") @advice("a") forbid (principal, action == Postgres::Action::"delete", resource) when { context.weekday >= 6 };
@id("mail") @reason("r") @advice("a") @mask("hash") forbid (principal, action == Postgres::Action::"readColumn", resource == Postgres::Column::"demo/shop/public/orders/mail");
"#;

fn row(number: u64) -> AskedRow {
    let table = ["orders", "vault", "customers"][(number % 3) as usize];
    let object = |kind, parts: &[&str]| Object {
        kind,
        path: ["demo", "shop", "public"]
            .iter()
            .chain(parts)
            .map(|part| Arc::from(*part))
            .collect(),
    };
    let delete = number.is_multiple_of(5);
    let mut accesses = vec![Access {
        action: if delete { "delete" } else { "select" },
        object: object("Table", &[table]),
    }];
    if !delete {
        accesses.push(Access {
            action: "readColumn",
            object: object("Column", &[table, "mail"]),
        });
    }
    let flag = |name, yes| (name, AttrValue::Bool(yes));
    let statement = if delete { "DELETE" } else { "SELECT" };
    let context = vec![
        ("statement", AttrValue::String(Arc::from(statement))),
        flag("readOnly", !delete),
        flag("unbounded", number.is_multiple_of(2)),
        flag("returning", false),
        flag("hasUnknownFunction", false),
        flag("securityDefiner", false),
        flag("triggers", false),
        ("joins", AttrValue::Long(0)),
    ];
    let recorded = Recorded::of(&Intent::new(accesses, context));
    AskedRow {
        // A week, hour by hour.
        at_s: 1_800_000_000 + i64::try_from(number % 168).unwrap() * 3600,
        workload: format!("w{}", number % 2),
        tenant: "t".to_owned(),
        principal: "me".to_owned(),
        application: "app".to_owned(),
        on_behalf_of: String::new(),
        groups: Vec::new(),
        roles: Vec::new(),
        evidence: "federated".to_owned(),
        target: "demo".to_owned(),
        protocol: "postgres".to_owned(),
        effects: recorded.effects.to_vec(),
        objects: recorded.objects.to_vec(),
        asked: recorded.asked.to_string(),
        decision: "allow".to_owned(),
        rule: "read".to_owned(),
        shape: 1 + number % 6,
        requests: 1 + number % 4,
        first: format!("2027-01-{:02}", 1 + number % 28),
        last: format!("2027-01-{:02}", 1 + number % 28),
        statement: format!("statement {number}"),
    }
}

#[test]
fn changes_are_those_of_cedar_alone_request_by_request() {
    let (before, after) = (set(BEFORE), set(AFTER));
    assert!(after.times().any());
    let judge = |set: &Arc<PolicySet>, engine| Judge::new(Arc::clone(set), engine);
    let mut found = Backtest::default();
    let (mut candidate, mut now) = (
        judge(&after, Engine::Compiled),
        judge(&before, Engine::Compiled),
    );
    let oracle = judge(&after, Engine::Cedar);
    let mut expected: BTreeMap<(String, &str, String, u64), u64> = BTreeMap::new();
    let (mut total, mut masked) = (0, 0);
    for number in 0..500 {
        let row = row(number);
        let question = Question::of(&row, VOCABULARIES).unwrap();
        found.take(&row, Ok(&question), (&mut candidate, &mut now));
        total += row.requests;
        let said = oracle.say_alone(&row, &question);
        if said.decision != "allow" {
            let key = (row.workload.clone(), said.decision, said.rule, row.shape);
            *expected.entry(key).or_default() += row.requests;
        } else if !said.obligations.is_empty() {
            masked += row.requests;
        }
    }
    let mut changes: BTreeMap<(String, &str, String, u64), u64> = BTreeMap::new();
    for (change, extent) in &found.changes {
        assert_eq!(change.from, "allow");
        let rule = change.to_rule.clone();
        let key = (change.workload.clone(), change.to, rule, change.shape);
        *changes.entry(key).or_default() += extent.requests;
    }
    assert_eq!(changes, expected);
    let rules: Vec<&str> = changes.keys().map(|key| key.2.as_str()).collect();
    for rule in ["asked-first", "not-the-vault", "weekend"] {
        assert!(rules.contains(&rule), "{rule} changes nothing: {rules:?}");
    }
    assert_eq!(found.requests, total);
    assert_eq!(found.unchanged + found.changed(), total);
    assert_eq!(found.drifted, 0);
    assert_eq!(
        found
            .duties
            .values()
            .map(|extent| extent.requests)
            .sum::<u64>(),
        masked
    );
    assert!(masked > 0);
}

#[test]
fn what_cannot_be_decided_again_is_counted_by_its_reason() {
    let unknown = AskedRow {
        asked: String::new(),
        ..row(1)
    };
    let ours = AskedRow {
        effects: Vec::new(),
        ..unknown.clone()
    };
    let presented = AskedRow {
        evidence: "presented".to_owned(),
        ..row(1)
    };
    let secret = AskedRow {
        protocol: "ssh".to_owned(),
        effects: vec!["exec".to_owned()],
        objects: vec!["Account:host/root".to_owned()],
        asked: "|command=?".to_owned(),
        ..row(1)
    };
    for (row, why) in [
        (unknown, Undecidable::NotRecorded),
        (ours, Undecidable::NotPolicys),
        (presented, Undecidable::Presented),
        (secret, Undecidable::Withheld),
    ] {
        assert_eq!(Question::of(&row, VOCABULARIES).err(), Some(why));
    }
}

#[test]
fn changes_that_are_too_many_are_counted() {
    let judge = |text| Judge::new(set(text), Engine::Compiled);
    let (mut candidate, mut now) = (judge(AFTER), judge(BEFORE));
    let mut found = Backtest::default();
    // On the vault, and no DELETE.
    let question = Question::of(&row(1), VOCABULARIES).unwrap();
    let each = u64::try_from(super::CHANGES_MAX).unwrap();
    for number in 0..each + 30 {
        let row = AskedRow {
            shape: 1 + number,
            requests: 2,
            ..row(1)
        };
        found.take(&row, Ok(&question), (&mut candidate, &mut now));
    }
    assert_eq!(found.changes.len(), super::CHANGES_MAX);
    assert_eq!(found.unlisted, (60, 0));
    assert_eq!(found.changed(), 2 * (each + 30));
}
