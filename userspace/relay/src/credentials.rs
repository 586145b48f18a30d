//! With what a flow signs in to its server: chosen by the principal's groups, replaced while the
//! node runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_model::ident::Principal;
use zeroize::Zeroizing;

/// A user with its present secret. The secret is absent until its source has answered once.
pub struct BackendUser {
    user: String,
    secret: Mutex<Option<Zeroizing<String>>>,
}

impl BackendUser {
    #[must_use]
    pub fn new(user: String, secret: Option<Zeroizing<String>>) -> Self {
        Self {
            user,
            secret: Mutex::new(secret),
        }
    }

    fn secret(&self) -> MutexGuard<'_, Option<Zeroizing<String>>> {
        self.secret.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New flows sign in with this one. The one before is wiped. True when it is another.
    pub fn replace(&self, secret: Zeroizing<String>) -> bool {
        let mut present = self.secret();
        let changed = present.as_ref().is_none_or(|have| **have != *secret);
        *present = Some(secret);
        changed
    }

    fn login(&self) -> Option<BackendLogin> {
        let secret = self.secret().clone()?;
        Some(BackendLogin {
            user: self.user.clone(),
            secret,
        })
    }
}

/// What one flow signs in with.
#[derive(Clone)]
pub struct BackendLogin {
    /// Empty for a token.
    pub user: String,
    pub secret: Zeroizing<String>,
}

/// All of a target.
pub struct Credentials {
    /// For whoever is in none of the groups.
    pub usual: Arc<BackendUser>,
    /// Group GUID and user; the first group that the principal is certainly in decides.
    pub roles: Vec<(String, Arc<BackendUser>)>,
}

impl Credentials {
    /// One user with a secret that is there.
    #[must_use]
    pub fn fixed(user: String, secret: Zeroizing<String>) -> Self {
        Self {
            usual: Arc::new(BackendUser::new(user, Some(secret))),
            roles: Vec::new(),
        }
    }

    /// `None` while the secret cannot be had: nobody signs in with another's instead.
    #[must_use]
    pub fn of(&self, principal: &Principal) -> Option<BackendLogin> {
        let role = self.roles.iter().find(|(group, _)| {
            principal
                .groups
                .certain()
                .any(|have| **have == *group.as_str())
        });
        match role {
            Some((_, user)) => user.login(),
            None => self.usual.login(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weir_model::ident::{EvidenceKind, Groups, PrincipalKind};

    use super::*;

    fn principal(groups: Groups) -> Principal {
        Principal {
            kind: PrincipalKind::Application,
            cloud: "public".into(),
            tenant: "t".into(),
            oid: "o".into(),
            app: "a".into(),
            roles: BTreeSet::new(),
            groups,
            on_behalf_of: None,
            token_id: "".into(),
            evidence: EvidenceKind::Federated,
            workload: "w".into(),
            valid_until_s: 0,
        }
    }

    fn user(name: &str, secret: Option<&str>) -> Arc<BackendUser> {
        let secret = secret.map(|text| Zeroizing::new(text.to_owned()));
        Arc::new(BackendUser::new(name.to_owned(), secret))
    }

    #[test]
    fn the_first_group_decides_and_unknown_groups_are_in_none() {
        let credentials = Credentials {
            usual: user("reader", Some("1")),
            roles: vec![
                ("g1".to_owned(), user("writer", Some("2"))),
                ("g2".to_owned(), user("owner", Some("3"))),
            ],
        };
        let of = |groups| credentials.of(&principal(groups)).unwrap().user;
        let known = |ids: &[&str]| Groups::Known(ids.iter().map(|id| (*id).into()).collect());
        assert_eq!(of(known(&["g2", "g1"])), "writer");
        assert_eq!(of(known(&["g2"])), "owner");
        assert_eq!(of(known(&["g3"])), "reader");
        assert_eq!(of(Groups::Unknown), "reader");
        assert_eq!(of(Groups::Overage), "reader");
    }

    #[test]
    fn a_missing_secret_is_never_replaced_by_another_users() {
        let credentials = Credentials {
            usual: user("reader", Some("1")),
            roles: vec![("g1".to_owned(), user("writer", None))],
        };
        let member = principal(Groups::Known(["g1".into()].into()));
        assert!(credentials.of(&member).is_none());
        let (_, writer) = &credentials.roles[0];
        assert!(writer.replace(Zeroizing::new("2".to_owned())));
        assert!(!writer.replace(Zeroizing::new("2".to_owned())), "the same");
        assert_eq!(credentials.of(&member).unwrap().secret.as_str(), "2");
    }
}
