//! Requests that each carry a token: the first one says whose flow it is, the others may not differ.

use std::sync::Arc;

use weir_model::fact::FactKind;
use weir_model::time::Now;

use super::FlowGate;
use crate::bind::{self, Unbound};
use crate::protocol;
use crate::subject::Subject;

const NO_TOKEN: &str = "weir: this target takes an Entra access token as the bearer of each request, \
     and there was none (kubectl --token=…): get one with `az account get-access-token --scope \
     api://CLIENT_ID_OF_WEIR/.default --query accessToken -o tsv`";
const ANOTHER: &str =
    "weir: this connection belongs to the subject of another token; open a new one";
const INTERNAL: &str = "weir: the presented access token could not be checked";
const NO_CREDENTIAL: &str =
    "weir: the credential for this server cannot be had; ask the platform team";

/// `Bearer` and one blank (RFC 6750, section 2.1); the scheme's case does not matter.
fn bearer(authorization: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

impl FlowGate {
    /// Called for each request before anything of it is looked at.
    pub(super) async fn admitted(&self, authorization: Option<&[u8]>) -> Result<(), &'static str> {
        if !self.target.accept_token {
            return Ok(());
        }
        let Some(token) = authorization.and_then(bearer) else {
            return Err(self.turn_away("weir:token-missing", NO_TOKEN, NO_TOKEN));
        };
        if self.known(token) {
            return Ok(());
        }
        let subject = match self.validated(token).await {
            Ok(subject) => subject,
            Err(none) => {
                tracing::warn!(session = %self.id, reason = %none.operator, "token refused");
                return Err(self.turn_away("weir:token-refused", &none.operator, none.text));
            }
        };
        if self.subject.borrow().attested.is_some() && !same(&self.subject.borrow(), &subject) {
            return Err(self.turn_away("weir:token-refused", ANOTHER, ANOTHER));
        }
        self.become_of(subject, token, weir_clock::now())
            .map_err(|text| self.turn_away("weir:token-refused", text, text))
    }

    /// The very token of an earlier request, that has not ended.
    fn known(&self, token: &str) -> bool {
        let now_s = weir_clock::now().unix_s();
        self.token
            .borrow()
            .as_ref()
            .is_some_and(|have| **have == *token)
            && now_s < self.subject.borrow().principal.valid_until_s
    }

    async fn validated(&self, token: &str) -> Result<Subject, Unbound> {
        let own = {
            let subject = self.subject.borrow();
            Arc::clone(subject.attested.as_ref().unwrap_or(&subject.principal))
        };
        let node = Arc::clone(&self.node);
        let token = zeroize::Zeroizing::new(token.to_owned());
        let (workload, cgroup) = self.whose.clone();
        let task = self.node.control.spawn(async move {
            let subject = bind::present(&node, own, &token).await?;
            bind::unrevoked(&node, &subject, (&workload, cgroup))?;
            Ok(subject)
        });
        task.await.unwrap_or_else(|_panicked| {
            Err(Unbound {
                code: "internal",
                text: INTERNAL,
                operator: "the task that checks tokens panicked".to_owned(),
            })
        })
    }

    fn become_of(&self, subject: Subject, token: &str, now: Now) -> Result<(), &'static str> {
        let acts = protocol::acts(&self.target, &subject, self.id).ok_or(NO_CREDENTIAL)?;
        let first = self.subject.borrow().attested.is_none();
        let bound = subject.bind(
            &self.policies.borrow_mut().borrow_and_update(),
            &self.target,
        );
        {
            let mut governor = self.governor.borrow_mut();
            let context =
                bind::of_principal(governor.context().as_ref().clone(), &subject.principal);
            governor.identify(&context, Box::new(bound));
            if first {
                let presenter = subject.note().unwrap_or_default();
                governor.note(FactKind::Identity, "presented", &presenter, now);
            }
        }
        self.record_lazily();
        self.acting.become_of(acts);
        self.node.listed(self.id, &subject, &self.whose);
        *self.subject.borrow_mut() = subject;
        *self.token.borrow_mut() = Some(zeroize::Zeroizing::new(token.to_owned()));
        self.admission.notify_one();
        Ok(())
    }

    fn turn_away(&self, rule: &'static str, reason: &str, text: &'static str) -> &'static str {
        let _recorded =
            self.governor
                .borrow_mut()
                .refuse(rule, reason, Arc::from(""), weir_clock::now());
        self.record_lazily();
        text
    }

    /// Returns when a token has said whose flow this is, or has been renewed.
    pub(crate) async fn new_subject(&self) -> Subject {
        self.admission.notified().await;
        self.subject()
    }
}

/// The key of a principal, and by which client it came.
fn same(one: &Subject, other: &Subject) -> bool {
    let (one, other) = (&one.principal, &other.principal);
    one.tenant == other.tenant && one.oid == other.oid && one.app == other.app
}

#[cfg(test)]
mod tests {
    use super::bearer;

    #[test]
    fn a_bearer_is_a_scheme_and_one_token() {
        assert_eq!(bearer(b"Bearer a.b.c"), Some("a.b.c"));
        assert_eq!(bearer(b"bEARER a"), Some("a"));
        for other in [
            &b"Basic YTpi"[..],
            b"Bearer",
            b"a.b.c",
            b"",
            b"Bearer\ta",
            b"\xff x",
        ] {
            assert_eq!(bearer(other), None);
        }
        // What follows is the validator's to refuse, blanks and all.
        assert_eq!(bearer(b"Bearer  a"), Some(" a"));
    }
}
