//! The starter policies, compiled for the lab, and people who use them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_decide::{Bound, Lifted, Outcome, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::time::Now;
use weir_model::vocabulary::Vocabulary;
use weir_postgres::vocabulary::VOCABULARY;

pub(crate) const ANALYSTS: &str = "9a000000-0000-4000-8000-000000000001";
pub(crate) const OPERATORS: &str = "9a000000-0000-4000-8000-000000000002";
pub(crate) const NOW: Now = Now {
    mono_us: 1,
    wall_us: 1,
};

const VOCABULARIES: [&Vocabulary; 3] = [
    &VOCABULARY,
    &weir_kubernetes::vocabulary::VOCABULARY,
    &weir_ssh::vocabulary::VOCABULARY,
];

pub(crate) fn settings() -> PolicySettings {
    PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned()]),
        targets: vec!["demo".to_owned(), "cluster".to_owned(), "host".to_owned()],
        group_aliases: BTreeMap::from([
            ("analysts".to_owned(), ANALYSTS.to_owned()),
            ("operators".to_owned(), OPERATORS.to_owned()),
        ]),
    }
}

pub(crate) fn sources() -> Vec<PolicySource> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/policies");
    let mut sources: Vec<PolicySource> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ends| ends == "cedar"))
        .map(|path| PolicySource {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&path).unwrap(),
        })
        .collect();
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources
}

pub(crate) fn compile(sources: &[PolicySource]) -> Arc<PolicySet> {
    match PolicySet::compile(sources, &VOCABULARIES, &settings()) {
        Ok(set) => Arc::new(set),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"));
        }
    }
}

pub(crate) fn principal(groups: &[&str]) -> Principal {
    Principal {
        kind: PrincipalKind::Application,
        cloud: Arc::from("lab"),
        tenant: Arc::from("9a000000-0000-4000-8000-0000000000aa"),
        oid: Arc::from("9a000000-0000-4000-8000-0000000000bb"),
        app: Arc::from("9a000000-0000-4000-8000-0000000000cc"),
        roles: BTreeSet::new(),
        groups: Groups::Known(groups.iter().map(|guid| Arc::from(*guid)).collect()),
        on_behalf_of: None,
        token_id: Arc::from("t"),
        evidence: EvidenceKind::Federated,
        workload: Arc::from("w"),
        valid_until_s: i64::MAX,
    }
}

pub(crate) fn bind(set: &Arc<PolicySet>, groups: &[&str]) -> Bound {
    let target = TargetRef {
        name: Arc::from("demo"),
        namespace: "Postgres",
    };
    set.bind(&principal(groups), &target)
}

/// `path` is below the database: `public/customers`; empty for the database itself.
pub(crate) fn object(kind: &'static str, path: &str) -> Object {
    let below = path.split('/').filter(|part| !part.is_empty());
    Object {
        kind,
        path: ["demo", "shop"]
            .into_iter()
            .chain(below)
            .map(Arc::from)
            .collect(),
    }
}

pub(crate) fn access(action: &'static str, kind: &'static str, path: &str) -> Access {
    Access {
        action,
        object: object(kind, path),
    }
}

pub(crate) fn intent(accesses: Vec<Access>, unbounded: bool) -> Arc<Intent> {
    let no = AttrValue::Bool(false);
    let context = vec![
        ("statement", AttrValue::String(Arc::from("SELECT"))),
        ("readOnly", no.clone()),
        ("unbounded", AttrValue::Bool(unbounded)),
        ("returning", no.clone()),
        ("joins", AttrValue::Long(0)),
        ("hasUnknownFunction", no.clone()),
        ("securityDefiner", no.clone()),
        ("triggers", no),
    ];
    Arc::new(Intent::new(accesses, context))
}

pub(crate) fn decide(bound: &mut Bound, intent: &Arc<Intent>) -> Outcome {
    bound.decide(1, SessionId(1), intent, &Lifted::none(), NOW)
}
