//! A presented token's subject and the workload that presents it: both are asked, and each sees the
//! other.

use std::sync::Arc;

use weir_decide::{
    Bound, Lifted, MaskKind, Outcome, PolicySet, PolicySettings, PolicySource, TargetRef,
};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::time::Now;
use weir_postgres::vocabulary::VOCABULARY;

const NOW: Now = Now {
    mono_us: 1,
    wall_us: 1,
};
const PEOPLE: &str = "9a000000-0000-4000-8000-000000000001";
const AGENTS: &str = "9a000000-0000-4000-8000-000000000002";

fn set(policies: &str) -> Arc<PolicySet> {
    let settings = PolicySettings {
        reviewer_groups: ["dba".to_owned()].into(),
        targets: vec!["t".to_owned()],
        group_aliases: [
            ("people".to_owned(), PEOPLE.to_owned()),
            ("agents".to_owned(), AGENTS.to_owned()),
        ]
        .into(),
    };
    let source = PolicySource {
        name: "p".to_owned(),
        text: policies.to_owned(),
    };
    match PolicySet::compile(&[source], &[&VOCABULARY], &settings) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn principal(oid: &str, kind: PrincipalKind, group: &str) -> Principal {
    Principal {
        kind,
        cloud: "lab".into(),
        tenant: "t1".into(),
        oid: oid.into(),
        app: "a1".into(),
        roles: ["Agent.Connect".into()].into(),
        groups: Groups::Known([group.into()].into()),
        on_behalf_of: None,
        token_id: "".into(),
        evidence: EvidenceKind::Federated,
        workload: "w".into(),
        valid_until_s: i64::MAX,
    }
}

fn bound(policies: &str) -> Bound {
    let person = principal("person", PrincipalKind::Person, PEOPLE);
    let agent = principal("agent", PrincipalKind::Application, AGENTS);
    let target = TargetRef {
        name: "t".into(),
        namespace: VOCABULARY.namespace,
    };
    set(policies).bind_presented(&person, &agent, &target)
}

fn object(kind: &'static str, path: &[&str]) -> Object {
    let path = ["t", "db", "public"].iter().chain(path);
    Object {
        kind,
        path: path.map(|part| Arc::from(*part)).collect(),
    }
}

fn reads() -> Arc<Intent> {
    let no = AttrValue::Bool(false);
    let accesses = vec![
        Access {
            action: "select",
            object: object("Table", &["customers"]),
        },
        Access {
            action: "readColumn",
            object: object("Column", &["customers", "ssn"]),
        },
    ];
    let context = vec![
        ("statement", AttrValue::String(Arc::from("SELECT"))),
        ("readOnly", no.clone()),
        ("unbounded", no.clone()),
        ("returning", no.clone()),
        ("joins", AttrValue::Long(0)),
        ("hasUnknownFunction", no.clone()),
        ("securityDefiner", no.clone()),
        ("triggers", no),
    ];
    Arc::new(Intent::new(accesses, context))
}

fn decide(policies: &str) -> Outcome {
    bound(policies).decide(1, SessionId(1), &reads(), &Lifted::none(), NOW)
}

fn denied(policies: &str) -> String {
    match decide(policies) {
        Outcome::Denial(denial) => format!("{}: {}", denial.rule, denial.reason),
        other @ (Outcome::Permit(_) | Outcome::Hold(_)) => panic!("not denied: {other:?}"),
    }
}

const PERSON: &str =
    r#"@id("person") permit (principal in Weir::Group::"people", action, resource);"#;
const AGENT: &str =
    r#"@id("agent") permit (principal in Weir::Group::"agents", action, resource);"#;

#[test]
fn both_have_to_be_permitted() {
    let said = denied(PERSON);
    assert!(
        said.starts_with("weir:no-permit") && said.contains("workload that presented"),
        "{said}"
    );
    let said = denied(AGENT);
    assert!(said.contains("presented token's subject"), "{said}");
    let Outcome::Permit(permit) = decide(&format!("{PERSON}{AGENT}")) else {
        panic!("both are permitted")
    };
    assert_eq!(permit.rule(), "agent, person");
}

#[test]
fn a_forbid_for_either_is_final() {
    for group in ["people", "agents"] {
        let forbid = format!(
            r#"@id("never") forbid (principal in Weir::Group::"{group}", action, resource);"#
        );
        let said = denied(&format!("{PERSON}{AGENT}{forbid}"));
        assert!(said.starts_with("never: "), "{said}");
    }
}

#[test]
fn what_either_is_obliged_to_holds() {
    for (group, kind) in [("people", "redact"), ("agents", "null")] {
        let mask = format!(
            r#"@id("mask") @mask("{kind}") forbid (principal in Weir::Group::"{group}",
               action == Postgres::Action::"readColumn", resource);"#
        );
        let policies = format!("{PERSON}{AGENT}{mask}");
        let Outcome::Permit(permit) = decide(&policies) else {
            panic!("masked, not denied")
        };
        assert_eq!(permit.obligations().masks.len(), 1, "{group}");
        let column = object("Column", &["customers", "ssn"]);
        assert!(bound(&policies).masks(&column), "{group}");
        let kinds: Vec<MaskKind> = permit
            .obligations()
            .masks
            .values()
            .map(|mask| mask.kind)
            .collect();
        assert_eq!(kinds.len(), 1);
    }
    let hold = r#"@id("hold") @hold("dba") forbid (principal in Weir::Group::"agents",
        action == Postgres::Action::"select", resource);"#;
    assert!(matches!(
        decide(&format!("{PERSON}{AGENT}{hold}")),
        Outcome::Hold(_)
    ));
}

#[test]
fn each_sees_the_other() {
    let seeing = r#"
        @id("person") permit (principal, action, resource)
            when { principal has attested && principal.attested in Weir::Group::"agents" };
        @id("agent") permit (principal, action, resource)
            when { principal has presented && principal.presented in Weir::Group::"people" &&
                   principal.presented.kind == "person" };
    "#;
    assert!(matches!(decide(seeing), Outcome::Permit(_)));
    let wrong = seeing.replace("Weir::Group::\"people\"", "Weir::Group::\"agents\"");
    assert!(denied(&wrong).contains("workload that presented"));
}

#[test]
fn a_workload_that_presents_its_own_token_is_one() {
    let agent = principal("agent", PrincipalKind::Application, AGENTS);
    let target = TargetRef {
        name: "t".into(),
        namespace: VOCABULARY.namespace,
    };
    let alone = r#"@id("alone") permit (principal, action, resource)
        unless { principal has attested || principal has presented };"#;
    let mut bound = set(alone).bind_presented(&agent, &agent, &target);
    let outcome = bound.decide(1, SessionId(1), &reads(), &Lifted::none(), NOW);
    assert!(matches!(outcome, Outcome::Permit(_)), "{outcome:?}");
}
