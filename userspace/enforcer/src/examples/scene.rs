//! Policies, targets and principals of a file of examples, ready to be asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use weir_decide::{PolicySet, PolicySettings, TargetRef};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind};
use weir_postgres::catalog::{Catalog, from_ddl};

use super::{ExampleFile, ExamplePrincipal, ExampleTarget};
use crate::policies;

/// A tenant, application and id of nobody, where an example names none.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Everything that a question needs.
pub(crate) struct Scene {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) targets: BTreeMap<String, SceneTarget>,
    principals: BTreeMap<String, Principal>,
}

pub(crate) struct SceneTarget {
    pub(crate) reference: TargetRef,
    pub(crate) database: Arc<str>,
    pub(crate) search_path: Vec<Arc<str>>,
    pub(crate) user: Arc<str>,
    /// Empty but for what every server has, where no schema is named.
    pub(crate) catalog: Option<Arc<Catalog>>,
}

impl Scene {
    /// From a file of examples; `directory` holds the policies.
    pub(crate) fn of(file: &ExampleFile, directory: &Path, base: &Path) -> Result<Self> {
        let settings = PolicySettings {
            reviewer_groups: file.settings.reviewer_groups.iter().cloned().collect(),
            targets: file.settings.targets.keys().cloned().collect(),
            group_aliases: file.settings.groups.clone(),
        };
        let mut sources = policies::read(directory)?;
        if !file.policies.is_empty() {
            for name in &file.policies {
                ensure!(
                    sources.iter().any(|source| source.name == *name),
                    "{} has no {name}",
                    directory.display()
                );
            }
            sources.retain(|source| file.policies.contains(&source.name));
        }
        let set = policies::compile(&sources, &settings)?;
        let mut targets = BTreeMap::new();
        for (name, target) in &file.settings.targets {
            targets.insert(name.clone(), scene_target(name, target, base)?);
        }
        let principals = file
            .principals
            .iter()
            .map(|(name, who)| (name.clone(), principal(who, &file.settings.groups)))
            .collect();
        Ok(Self {
            set: Arc::new(set),
            targets,
            principals,
        })
    }

    /// The target of that name, or the only one.
    pub(crate) fn target(&self, name: Option<&str>) -> Result<&SceneTarget> {
        match name {
            Some(name) => self
                .targets
                .get(name)
                .with_context(|| format!("no target {name} among settings.targets")),
            None => {
                let mut all = self.targets.values();
                match (all.next(), all.next()) {
                    (Some(only), None) => Ok(only),
                    (Some(_), Some(_)) => bail!("several targets: say which one (target:)"),
                    (None, _) => bail!("settings.targets is empty"),
                }
            }
        }
    }

    pub(crate) fn principal(&self, name: &str) -> Result<&Principal> {
        self.principals
            .get(name)
            .with_context(|| format!("no {name} among principals"))
    }
}

fn scene_target(name: &str, target: &ExampleTarget, base: &Path) -> Result<SceneTarget> {
    let namespace = match target.protocol.as_str() {
        "postgres" => weir_postgres::vocabulary::VOCABULARY.namespace,
        "kubernetes" => weir_kubernetes::vocabulary::VOCABULARY.namespace,
        "ssh" => weir_ssh::vocabulary::VOCABULARY.namespace,
        other => bail!("target {name}: protocol {other} is not postgres, kubernetes or ssh"),
    };
    let catalog = match (&target.schema, target.protocol.as_str()) {
        (Some(file), _) => {
            let path = base.join(file);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            Some(Arc::new(
                from_ddl(&text).with_context(|| path.display().to_string())?,
            ))
        }
        (None, "postgres") => Some(Arc::new(from_ddl("").context("the built-in catalog")?)),
        (None, _) => None,
    };
    let search_path = target.search_path.clone();
    let search_path = search_path.unwrap_or_else(|| vec!["public".to_owned()]);
    Ok(SceneTarget {
        reference: TargetRef {
            name: Arc::from(name),
            namespace,
        },
        database: Arc::from(target.database.as_deref().unwrap_or("postgres")),
        search_path: search_path.iter().map(|name| Arc::from(&**name)).collect(),
        user: Arc::from(target.user.as_deref().unwrap_or("agent")),
        catalog,
    })
}

fn principal(who: &ExamplePrincipal, aliases: &BTreeMap<String, String>) -> Principal {
    let guid = |name: &String| Arc::from(aliases.get(name).unwrap_or(name).as_str());
    let or_nobody = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or(NOBODY));
    Principal {
        kind: if who.person {
            PrincipalKind::Person
        } else {
            PrincipalKind::Application
        },
        cloud: Arc::from("example"),
        tenant: or_nobody(&who.tenant),
        oid: or_nobody(&who.id),
        app: or_nobody(&who.application),
        roles: who.roles.iter().map(|role| Arc::from(&**role)).collect(),
        groups: Groups::Known(who.groups.iter().map(guid).collect()),
        on_behalf_of: who.on_behalf_of.as_deref().map(Arc::from),
        token_id: Arc::from(""),
        evidence: EvidenceKind::Federated,
        workload: Arc::from(who.workload.as_deref().unwrap_or("example")),
        valid_until_s: i64::MAX,
    }
}
