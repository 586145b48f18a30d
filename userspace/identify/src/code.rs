//! Signs a person in by the browser: authorization code with PKCE.
//!
//! Sources: RFC 6749 (section 4.1), RFC 7636 (`S256` only), RFC 8252 (loopback redirects), RFC 9207
//! (`iss` of the answer), OpenID Connect Core (section 3.1). The caller shows the URL and hands over
//! the query that the browser comes back with: no listener and no timer lives here.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;
use weir_model::time::Now;

use crate::Identify;
use crate::authority::Authority;
use crate::device::Signed;
use crate::entra::EntraRefusal;
use crate::federated::minted;
use crate::guid::is_nonzero_guid;
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::sign_in::Asked;
use crate::validate::shown::shown;

/// A code is redeemed at once; a person may take this long at the sign-in page.
const SIGN_IN_S_MAX: u64 = 600;
/// A query is far below this.
const QUERY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of randomness in state, nonce and verifier; 43 characters each (RFC 7636, section 4.1).
const RANDOM_BYTES: usize = 32;

/// Which client asks, and where the browser comes back to.
#[derive(Clone, Debug, Default)]
pub struct CodeRequest {
    /// As registered; Entra ignores the port of a loopback address. `https`, or `http` on loopback.
    pub redirect_uri: String,
    /// The public client of `identity.reviewer_client_id` when absent.
    pub client: Option<CodeClient>,
    /// Ask for what renews the sign-in, for a process tree.
    pub offline: bool,
    /// Ask for the credentials anew, whatever session the browser has there.
    pub again: bool,
}

/// A client of its own registration, such as a web console's.
#[derive(Clone, Debug)]
pub struct CodeClient {
    /// Lower-case GUID; never the enforcer's own API.
    pub client_id: String,
    /// Where the registration is of the platform "Web".
    pub secret: Option<Secret>,
}

/// What the person has to open.
#[derive(Debug)]
pub struct CodeStart {
    pub url: String,
    pub handle: CodeHandle,
}

/// A sign-in under way: state, nonce and verifier. Redeemed once, and never shown.
#[derive(Debug)]
pub struct CodeHandle {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    redirect_uri: String,
    scope: String,
    tenant: Arc<str>,
    client_id: Arc<str>,
    client_secret: Option<Secret>,
    begun_us: u64,
}

/// What the browser came back with.
#[derive(Debug, Default)]
pub struct CodeAnswer {
    code: Option<Secret>,
    state: String,
    issuer: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

/// Why the browser's answer is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerProblem {
    #[error("the browser came back with something that is no answer to a sign-in")]
    Malformed,
    #[error("the browser came back from another sign-in (state): start again")]
    State,
    #[error("the answer is of another issuer than the tenant that was asked (iss)")]
    Issuer,
    #[error("the sign-in took longer than 10 minutes: start again")]
    Late,
}

fn random() -> Secret {
    let bytes: [u8; RANDOM_BYTES] = rand::random();
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// `S256` of RFC 7636, section 4.2.
fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose().as_bytes()))
}

fn redirect_allowed(text: &str) -> bool {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => url.host_str().is_some() && url.fragment().is_none(),
        Ok(_) | Err(_) => Authority::parse_local(text).is_ok_and(|url| url.fragment().is_none()),
    }
}

impl CodeAnswer {
    /// Reads a query, without its question mark.
    ///
    /// # Errors
    /// It is larger than 16 KiB, names a parameter twice, or holds neither a code nor an error.
    pub fn parse(query: &str) -> Result<Self, AnswerProblem> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(AnswerProblem::Malformed);
        }
        let mut answer = Self::default();
        let mut state = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            let before = match &*name {
                "code" => answer.code.replace(Secret::new(value)).is_some(),
                "state" => state.replace(value).is_some(),
                "iss" => answer.issuer.replace(value).is_some(),
                "error" => answer.error.replace(value).is_some(),
                "error_description" => answer.description.replace(value).is_some(),
                // `session_state` and whatever is added one day.
                _ => false,
            };
            if before {
                return Err(AnswerProblem::Malformed);
            }
        }
        answer.state = state.ok_or(AnswerProblem::Malformed)?;
        if answer.code.is_some() == answer.error.is_some() {
            return Err(AnswerProblem::Malformed);
        }
        Ok(answer)
    }

    /// By which a caller with several sign-ins under way finds the handle; proves nothing.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.state
    }
}

impl CodeHandle {
    /// The key of this sign-in among others.
    #[must_use]
    pub fn state(&self) -> &str {
        self.state.expose()
    }

    /// Seconds that a caller keeps a handle at most.
    pub const KEEP_S: u64 = SIGN_IN_S_MAX;

    fn check(&self, answer: &CodeAnswer, issuer: &str, now: Now) -> Result<(), AnswerProblem> {
        let (ours, theirs) = (self.state.expose().as_bytes(), answer.state.as_bytes());
        if verify_slices_are_equal(ours, theirs).is_err() {
            return Err(AnswerProblem::State);
        }
        if answer.issuer.as_deref().is_some_and(|have| have != issuer) {
            return Err(AnswerProblem::Issuer);
        }
        if now.mono_us.saturating_sub(self.begun_us) > SIGN_IN_S_MAX * 1_000_000 {
            return Err(AnswerProblem::Late);
        }
        Ok(())
    }
}

impl Identify {
    /// Starts a sign-in at the first configured tenant: the URL to open, and what to redeem it by.
    ///
    /// # Errors
    /// [`Unidentified::NotConfigured`] without a client or with a redirect that is not allowed; else
    /// what the authority said.
    pub async fn authorize_url(
        &self,
        request: &CodeRequest,
        now: Now,
    ) -> Result<CodeStart, Unidentified> {
        let settings = &self.settings;
        if !redirect_allowed(&request.redirect_uri) {
            return Err(Unidentified::NotConfigured(
                "the redirect of a browser sign-in must be https, or http on a loopback address",
            ));
        }
        let (client_id, client_secret) = self.code_client(request)?;
        let tenant = settings.tenants.first();
        let tenant = tenant.ok_or(Unidentified::TenantNotAllowed)?;
        let discovery = self.keys.discovery(&self.http, settings, tenant, now);
        let discovery = discovery.await?;
        let endpoint = discovery.authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(Unidentified::NotConfigured(
            "this authority offers no sign-in by browser",
        ))?;
        let mut url = Url::parse(endpoint).map_err(|_| Unidentified::Malformed {
            what: "authorization endpoint",
        })?;
        let handle = CodeHandle {
            state: random(),
            nonce: random(),
            verifier: random(),
            redirect_uri: request.redirect_uri.clone(),
            scope: self.code_scope(request.offline),
            tenant: Arc::clone(tenant),
            client_id,
            client_secret,
            begun_us: now.mono_us,
        };
        url.query_pairs_mut().extend_pairs([
            ("client_id", &*handle.client_id),
            ("response_type", "code"),
            ("response_mode", "query"),
            ("redirect_uri", &handle.redirect_uri),
            ("scope", &handle.scope),
            ("state", handle.state.expose()),
            ("nonce", handle.nonce.expose()),
            ("code_challenge", &challenge(&handle.verifier)),
            ("code_challenge_method", "S256"),
            // A session of the browser alone is no sign-in of whoever sits there.
            (
                "prompt",
                if request.again {
                    "login"
                } else {
                    "select_account"
                },
            ),
        ]);
        Ok(CodeStart {
            url: url.into(),
            handle,
        })
    }

    /// Exchanges the code for tokens, and validates both of them; the id_token's `nonce` has to be
    /// this sign-in's.
    ///
    /// # Errors
    /// [`Unidentified::Answer`] for a query that is not this sign-in's; else what Entra or the
    /// validator said. The handle is used up either way.
    pub async fn redeem(
        &self,
        handle: CodeHandle,
        answer: CodeAnswer,
        now: Now,
    ) -> Result<Signed, Unidentified> {
        let issuer = self.settings.authority.issuer(&handle.tenant);
        handle
            .check(&answer, &issuer, now)
            .map_err(Unidentified::Answer)?;
        let Some(code) = &answer.code else {
            let error = answer.error.unwrap_or_default();
            let refusal = EntraRefusal::from_answer(error, answer.description);
            return Err(Unidentified::Refused(refusal));
        };
        let endpoint = self.token_endpoint(&handle.tenant, now).await?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("client_id", &*handle.client_id),
            ("scope", &handle.scope),
            ("code", code.expose()),
            ("redirect_uri", &handle.redirect_uri),
            ("code_verifier", handle.verifier.expose()),
        ];
        if let Some(secret) = &handle.client_secret {
            fields.push(("client_secret", secret.expose()));
        }
        let reply = self.http.post_form(&endpoint, &fields).await?;
        let tokens = minted(&reply)?;
        let asked = Asked {
            tenant: &handle.tenant,
            client_id: &handle.client_id,
            nonce: Some(handle.nonce.expose()),
        };
        let principal = self.person(&asked, &tokens, now).await?;
        Ok(Signed {
            principal,
            shown: tokens.id_token.as_ref().and_then(shown),
            refresh: tokens.refresh_token,
        })
    }

    fn code_client(
        &self,
        request: &CodeRequest,
    ) -> Result<(Arc<str>, Option<Secret>), Unidentified> {
        let settings = &self.settings;
        match &request.client {
            None => {
                let client = settings.reviewer_client_id.as_ref();
                let client = client.ok_or(Unidentified::NotConfigured(
                    "sign-in of people needs identity.reviewer_client_id",
                ))?;
                Ok((Arc::clone(client), None))
            }
            Some(own) => {
                let apart = *own.client_id != *settings.audience;
                if !apart || !is_nonzero_guid(&own.client_id) {
                    return Err(Unidentified::NotConfigured(
                        "the client of a browser sign-in must be a lower-case GUID, and not \
                         identity.audience",
                    ));
                }
                Ok((own.client_id.as_str().into(), own.secret.clone()))
            }
        }
    }

    fn code_scope(&self, offline: bool) -> String {
        if offline {
            self.persons_scope()
        } else {
            self.reviewers_scope()
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_model::time::Now;

    use super::{AnswerProblem, CodeAnswer, CodeHandle, challenge, redirect_allowed};
    use crate::secret::Secret;

    #[test]
    fn the_challenge_is_that_of_the_specification() {
        // RFC 7636, appendix B.
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(
            challenge(&verifier),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn an_answer_is_one_code_or_one_error_of_one_state() {
        let good = CodeAnswer::parse("code=abc&state=s&session_state=x&new=1&new=2").unwrap();
        assert_eq!(good.state(), "s");
        assert_eq!(good.code.unwrap().expose(), "abc");
        CodeAnswer::parse("error=access_denied&error_description=AADSTS65004%3A+no&state=s")
            .unwrap();
        for query in [
            "",
            "code=abc",
            "state=s",
            "code=a&code=b&state=s",
            "code=a&state=s&state=t",
            "code=a&error=b&state=s",
            "error=a&error=b&state=s",
            "code=a&state=s&iss=x&iss=y",
            "code=a&%63ode=b&state=s",
            "state=s&CODE=a",
        ] {
            assert_eq!(
                CodeAnswer::parse(query).err(),
                Some(AnswerProblem::Malformed),
                "{query}"
            );
        }
        let long = format!("code={}&state=s", "a".repeat(16 * 1024));
        assert!(CodeAnswer::parse(&long).is_err());
    }

    #[test]
    fn answers_are_tied_to_their_sign_in() {
        let handle = CodeHandle {
            state: Secret::new("right"),
            nonce: Secret::new("n"),
            verifier: Secret::new("v"),
            redirect_uri: String::new(),
            scope: String::new(),
            tenant: "t".into(),
            client_id: "c".into(),
            client_secret: None,
            begun_us: 0,
        };
        let at = |seconds: u64| Now {
            mono_us: seconds * 1_000_000,
            wall_us: 0,
        };
        let check = |query: &str, now| {
            handle.check(
                &CodeAnswer::parse(query).unwrap(),
                "https://issuer/t/v2.0",
                now,
            )
        };
        assert_eq!(check("code=a&state=right", at(600)), Ok(()));
        assert_eq!(
            check("code=a&state=right&iss=https://issuer/t/v2.0", at(1)),
            Ok(())
        );
        for (query, seconds, problem) in [
            ("code=a&state=wrong", 1, AnswerProblem::State),
            ("code=a&state=right2", 1, AnswerProblem::State),
            ("code=a&state=", 1, AnswerProblem::State),
            (
                "code=a&state=right&iss=https://other/t/v2.0",
                1,
                AnswerProblem::Issuer,
            ),
            ("code=a&state=right&iss=", 1, AnswerProblem::Issuer),
            ("code=a&state=right", 601, AnswerProblem::Late),
        ] {
            assert_eq!(check(query, at(seconds)), Err(problem), "{query}");
        }
        let shown = format!("{handle:?}");
        assert!(!shown.contains("right"), "{shown}");
    }

    #[test]
    fn browsers_come_back_by_https_or_to_this_machine() {
        for good in [
            "http://127.0.0.1:40123/",
            "http://[::1]:9/",
            "https://weir.example/auth/callback",
        ] {
            assert!(redirect_allowed(good), "{good}");
        }
        for bad in [
            "http://weir.example/",
            "http://localhost.evil.example/",
            "javascript:alert(1)",
            "https://weir.example/#x",
            "/auth",
            "",
        ] {
            assert!(!redirect_allowed(bad), "{bad}");
        }
    }
}
