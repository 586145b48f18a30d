//! With what a flow signs in to its server: chosen by the principal's groups, replaced while the
//! node runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_model::ident::Principal;
use zeroize::Zeroizing;

/// A secret that is replaced while the node runs; absent until its source has answered once.
#[derive(Default)]
pub struct Rotated(Mutex<Option<Zeroizing<String>>>);

impl Rotated {
    #[must_use]
    pub const fn new(secret: Option<Zeroizing<String>>) -> Self {
        Self(Mutex::new(secret))
    }

    fn secret(&self) -> MutexGuard<'_, Option<Zeroizing<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New flows sign in with this one. The one before is wiped. True when it is another.
    pub fn replace(&self, secret: Zeroizing<String>) -> bool {
        let mut present = self.secret();
        let changed = present.as_ref().is_none_or(|have| **have != *secret);
        *present = Some(secret);
        changed
    }
}

/// As whom, and with what.
pub struct BackendUser {
    pub user: String,
    pub secret: Arc<Rotated>,
    /// Of a key of SSH that has one.
    pub certificate: Option<Arc<Rotated>>,
}

impl BackendUser {
    fn login(&self) -> Option<BackendLogin> {
        let certificate = match &self.certificate {
            Some(certificate) => Some(certificate.secret().clone()?),
            None => None,
        };
        Some(BackendLogin {
            user: self.user.clone(),
            secret: self.secret.secret().clone()?,
            certificate,
        })
    }
}

/// What one flow signs in with.
#[derive(Clone)]
pub struct BackendLogin {
    /// Empty for a token; for SSH the account that the client asks for.
    pub user: String,
    pub secret: Zeroizing<String>,
    pub certificate: Option<Zeroizing<String>>,
}

/// All of a target.
pub struct Credentials {
    /// For whoever is in none of the groups.
    pub usual: BackendUser,
    /// Group GUID and user; the first group that the principal is certainly in decides.
    pub roles: Vec<(String, BackendUser)>,
}

impl Credentials {
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

    fn user(name: &str, secret: Option<&str>) -> BackendUser {
        BackendUser {
            user: name.to_owned(),
            secret: Arc::new(Rotated::new(secret.map(text))),
            certificate: None,
        }
    }

    fn text(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
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
        assert!(writer.secret.replace(text("2")));
        assert!(!writer.secret.replace(text("2")), "the same");
        assert_eq!(credentials.of(&member).unwrap().secret.as_str(), "2");
    }

    #[test]
    fn a_key_without_its_certificate_is_not_used() {
        let certificate = Arc::new(Rotated::default());
        let credentials = Credentials {
            usual: BackendUser {
                certificate: Some(Arc::clone(&certificate)),
                ..user("deploy", Some("key"))
            },
            roles: Vec::new(),
        };
        let nobody = principal(Groups::Unknown);
        assert!(credentials.of(&nobody).is_none());
        certificate.replace(text("first"));
        certificate.replace(text("second"));
        let login = credentials.of(&nobody).unwrap();
        assert_eq!(login.certificate.unwrap().as_str(), "second");
    }
}
