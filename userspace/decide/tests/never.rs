//! What is never permitted: sure in spite of what is not known of object, time and statement.

use std::sync::Arc;

use weir_decide::{Bound, Never, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind};
use weir_model::request::AttrValue;
use weir_postgres::vocabulary::VOCABULARY;

const AGENTS: &str = "9a000000-0000-4000-8000-000000000002";
const READS: &str = r#"@id("reads") permit (principal in Weir::Group::"agents",
    action in [Postgres::Action::"select", Postgres::Action::"readColumn"], resource in Weir::Target::"t");"#;

fn bound(policies: &str) -> Bound {
    let settings = PolicySettings {
        reviewer_groups: ["dba".to_owned()].into(),
        targets: vec!["t".to_owned(), "other".to_owned()],
        group_aliases: [("agents".to_owned(), AGENTS.to_owned())].into(),
    };
    let source = PolicySource {
        name: "p".to_owned(),
        text: format!("{READS}\n{policies}"),
    };
    let set = match PolicySet::compile(&[source], &[&VOCABULARY], &settings) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems:?}"),
    };
    let principal = Principal {
        kind: PrincipalKind::Application,
        cloud: "lab".into(),
        tenant: "t1".into(),
        oid: "agent".into(),
        app: "a1".into(),
        roles: ["Agent.Connect".into()].into(),
        groups: Groups::Known([AGENTS.into()].into()),
        on_behalf_of: None,
        token_id: "".into(),
        evidence: EvidenceKind::Federated,
        workload: "w".into(),
        valid_until_s: i64::MAX,
    };
    let target = TargetRef {
        name: "t".into(),
        namespace: VOCABULARY.namespace,
    };
    set.bind(&principal, &target)
}

fn never_writes(policies: &str) -> bool {
    bound(policies).never_permits(&Never {
        actions: &["insert", "delete", "call"],
        context: &[("readOnly", AttrValue::Bool(false))],
        spared: |object| object.id().contains("pg_advisory_unlock_all"),
    })
}

#[test]
fn what_may_be_permitted_is_not_ruled_out() {
    for policy in [
        r#"@id("p") permit (principal, action, resource);"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"insert", resource);"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"insert",
            resource == Postgres::Table::"t/shop/public/notes");"#,
        r#"@id("p") permit (principal in Weir::Group::"agents", action == Postgres::Action::"call",
            resource == Postgres::Function::"t/shop/public/refund");"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"delete", resource)
            when { context.statement like "*x*" };"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"delete", resource)
            when { principal.workload != "elsewhere" };"#,
        r#"@id("p") permit (principal, action, resource)
            unless { action == Postgres::Action::"insert" };"#,
        // A forbid of some objects, or at some times, does not rule out the rest.
        r#"@id("p") permit (principal, action, resource);
           @id("f") @reason("r") @advice("a") forbid (principal, action,
            resource in Postgres::Schema::"t/shop/public");"#,
        // A hold is no denial.
        r#"@id("p") permit (principal, action, resource);
           @id("h") @reason("r") @advice("a") @hold("dba") forbid (principal, action, resource);"#,
    ] {
        assert!(!never_writes(policy), "{policy}");
    }
}

#[test]
fn what_cannot_be_permitted_is_ruled_out() {
    for policy in [
        "",
        r#"@id("p") permit (principal, action, resource in Weir::Target::"other");"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"insert",
            resource == Postgres::Table::"other/shop/public/notes");"#,
        r#"@id("p") permit (principal, action, resource) when { principal.workload == "elsewhere" };"#,
        r#"@id("p") permit (principal, action, resource) when { context.readOnly };"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"call",
            resource == Postgres::Function::"t/shop/pg_catalog/pg_advisory_unlock_all");"#,
        r#"@id("p") permit (principal, action == Postgres::Action::"truncate", resource);"#,
        r#"@id("p") permit (principal, action, resource);
           @id("f") @reason("r") @advice("a") forbid (principal, action, resource)
            unless { context.readOnly };"#,
    ] {
        assert!(never_writes(policy), "{policy}");
    }
}
