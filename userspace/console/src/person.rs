//! Who is signed in, and what they may.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::ident::Principal;

/// By what Entra says that somebody belongs to a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Object id of a group, a lower-case GUID.
    Group(String),
    /// Value of an app role on Weir's own registration.
    AppRole(String),
}

impl Who {
    fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Group(id) => principal
                .groups
                .certain()
                .any(|have| **have == *id.as_str()),
            Self::AppRole(role) => principal.roles.iter().any(|have| **have == *role.as_str()),
        }
    }
}

/// Who has which role.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    /// Reviewer group, as policies write it → who is in it.
    pub reviewers: BTreeMap<String, Vec<Who>>,
    /// See all that is recorded.
    pub auditors: Vec<Who>,
    /// See all that is recorded, and revoke.
    pub administrators: Vec<Who>,
}

/// What a person may. Nothing follows from a sign-in alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub reviewer: bool,
    pub auditor: bool,
    pub administrator: bool,
}

impl Rights {
    #[must_use]
    pub const fn any(self) -> bool {
        self.reviewer || self.auditor || self.administrator
    }

    /// Recorded sessions of everybody.
    #[must_use]
    pub const fn sees_record(self) -> bool {
        self.auditor || self.administrator
    }

    /// For people to read.
    #[must_use]
    pub fn words(self) -> String {
        let all = [
            (self.reviewer, "reviewer"),
            (self.auditor, "auditor"),
            (self.administrator, "administrator"),
        ];
        let names: Vec<&str> = all
            .into_iter()
            .filter_map(|(has, name)| has.then_some(name))
            .collect();
        names.join(", ")
    }
}

/// A person with a session in a browser.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) principal: Arc<Principal>,
    pub(crate) shown: String,
    /// Reviewer groups, as policies write them.
    pub(crate) groups: Vec<String>,
    pub(crate) rights: Rights,
}

impl Roles {
    pub(crate) fn person(&self, principal: Arc<Principal>, shown: String) -> Person {
        let groups: Vec<String> = self
            .reviewers
            .iter()
            .filter(|(_, who)| who.iter().any(|who| who.is(&principal)))
            .map(|(name, _)| name.clone())
            .collect();
        let rights = Rights {
            reviewer: !groups.is_empty(),
            auditor: self.auditors.iter().any(|who| who.is(&principal)),
            administrator: self.administrators.iter().any(|who| who.is(&principal)),
        };
        Person {
            principal,
            shown,
            groups,
            rights,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_model::ident::{EvidenceKind, Groups, PrincipalKind};

    use super::*;

    fn principal(groups: Groups, roles: &[&str]) -> Arc<Principal> {
        Arc::new(Principal {
            kind: PrincipalKind::Person,
            cloud: "public".into(),
            tenant: "t".into(),
            oid: "o".into(),
            app: "a".into(),
            roles: roles.iter().map(|role| Arc::from(*role)).collect(),
            groups,
            on_behalf_of: None,
            token_id: "".into(),
            evidence: EvidenceKind::Person,
            workload: "".into(),
            valid_until_s: 0,
        })
    }

    fn known(ids: &[&str]) -> Groups {
        Groups::Known(ids.iter().map(|id| Arc::from(*id)).collect::<BTreeSet<_>>())
    }

    #[test]
    fn a_role_comes_by_group_or_by_app_role_and_never_by_what_is_unknown() {
        let roles = Roles {
            reviewers: [("dba".to_owned(), vec![Who::Group("g1".to_owned())])].into(),
            auditors: vec![Who::AppRole("Weir.Auditor".to_owned())],
            administrators: vec![Who::Group("g2".to_owned())],
        };
        let of = |groups, names: &[&str]| roles.person(principal(groups, names), "x".to_owned());
        let alice = of(known(&["g1"]), &[]);
        assert_eq!(alice.groups, ["dba"]);
        assert_eq!(alice.rights.words(), "reviewer");
        assert_eq!(of(known(&[]), &["Weir.Auditor"]).rights.words(), "auditor");
        assert_eq!(of(known(&["g2"]), &[]).rights.words(), "administrator");
        // A group's id as a role's value is another thing, and so are unknown groups.
        for nobody in [
            of(known(&["Weir.Auditor"]), &["g1", "g2"]),
            of(Groups::Overage, &[]),
            of(Groups::Unknown, &[]),
        ] {
            assert!(!nobody.rights.any(), "{nobody:?}");
        }
    }
}
