//! The exchanges: one for each way to prove a workload.
//!
//! Sources: the vendor's client-credentials flow (shared secret, certificate, federated credential),
//! its managed-identity endpoint, and its agent-identity protocol.

use serde::Deserialize;
use weir_model::ident::PrincipalKind;
use weir_model::time::Now;

use crate::Identify;
use crate::bind::WorkloadIdentity;
use crate::federated::{ASSERTION_TYPE, check_assertion, minted};
use crate::http::Answer;
use crate::method::{AssertionSource, Method};
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::validate::{Accepted, TokenRefusal};

/// Resource of the first step of an agent identity's sign-in.
const EXCHANGE_RESOURCE: &str = "api://AzureADTokenExchange";
const METADATA_API_VERSION: &str = "2018-02-01";

/// By what the client authenticates.
enum ClientProof<'a> {
    Assertion(&'a Secret),
    Secret(&'a Secret),
}

/// A form of client credentials.
struct Form<'a> {
    endpoint: &'a str,
    client_id: &'a str,
    scope: &'a str,
    proof: ClientProof<'a>,
    /// Agent identity that a blueprint asks for.
    fmi_path: Option<&'a str>,
}

/// What a person's tokens have to agree with.
pub(crate) struct Asked<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) client_id: &'a str,
    /// Of the id_token: the very one that was sent, or none at all.
    pub(crate) nonce: Option<&'a str>,
}

#[derive(Deserialize)]
struct MetadataBody {
    access_token: String,
}

impl Identify {
    /// A validated token of the workload; the caller has checked nothing yet.
    pub(crate) async fn sign_in(
        &self,
        workload: &WorkloadIdentity,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<Accepted, Unidentified> {
        let tenants = &self.settings.tenants;
        if !tenants.iter().any(|tenant| **tenant == *workload.tenant) {
            return Err(Unidentified::TenantNotAllowed);
        }
        let scope = format!("api://{}/.default", self.settings.audience);
        let token = self.token(workload, &scope, handed, now).await?;
        let accepted = self.validated(&token, &workload.tenant, now).await?;
        let kind = match &workload.method {
            Method::Person => PrincipalKind::Person,
            Method::Federated(_)
            | Method::Certificate(_)
            | Method::Secret(_)
            | Method::Managed
            | Method::AgentId { .. } => PrincipalKind::Application,
        };
        accepted.bound_to(kind, &workload.tenant, &workload.client_id)?;
        if let Method::AgentId { blueprint, .. } = &workload.method {
            // Logged only: a blueprint stands for all its agents.
            if accepted
                .blueprint
                .as_deref()
                .is_some_and(|have| have != blueprint)
            {
                return Err(TokenRefusal::BindBlueprint.into());
            }
            tracing::info!(workload = %workload.name, %blueprint, "an agent identity is signed in");
        }
        Ok(accepted)
    }

    /// A token for any resource, not validated: it is for that resource to do.
    ///
    /// # Errors
    /// As a sign-in's.
    pub(crate) async fn token_for(
        &self,
        identity: &WorkloadIdentity,
        scope: &str,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        self.token(identity, scope, None, now).await
    }

    /// The same for an identity that needs a token of its own to sign in.
    pub(crate) async fn token_handed(
        &self,
        identity: &WorkloadIdentity,
        scope: &str,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        self.token(identity, scope, handed, now).await
    }

    async fn token(
        &self,
        workload: &WorkloadIdentity,
        scope: &str,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        match &workload.method {
            Method::Federated(source) => {
                let assertion = self.assertion(workload, source, handed, now).await?;
                let proof = ClientProof::Assertion(&assertion);
                self.client_credentials(workload, scope, proof, now).await
            }
            Method::Certificate(certificate) => {
                let endpoint = self.token_endpoint(&workload.tenant, now).await?;
                let assertion = certificate
                    .assertion(&workload.client_id, &endpoint, now)
                    .ok_or(Unidentified::NotConfigured(
                        "the workload's certificate key cannot sign",
                    ))?;
                let proof = ClientProof::Assertion(&assertion);
                self.client_credentials(workload, scope, proof, now).await
            }
            Method::Secret(secret) => {
                let proof = ClientProof::Secret(secret);
                self.client_credentials(workload, scope, proof, now).await
            }
            Method::Managed => self.managed(workload, scope).await,
            Method::AgentId { blueprint, source } => {
                let assertion = self.assertion(workload, source, handed, now).await?;
                self.agent(workload, (blueprint, scope), &assertion, now)
                    .await
            }
            Method::Person => self.persons_token(workload, now).await,
        }
    }

    /// The service-account token, checked against what is attested, before it goes anywhere.
    async fn assertion(
        &self,
        workload: &WorkloadIdentity,
        source: &AssertionSource,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        let handed = handed.ok_or(Unidentified::NotConfigured("no token was handed over"))?;
        let assertion = match source {
            AssertionSource::Handed => handed,
            AssertionSource::Requested(request) => request.ask(&handed).await?,
        };
        let audience = &self.settings.authority.exchange_audience;
        check_assertion(&assertion, audience, None, now).map_err(Unidentified::Assertion)?;
        if let Some(attested) = &workload.attested {
            attested
                .check(&assertion)
                .map_err(Unidentified::Assertion)?;
        }
        Ok(assertion)
    }

    pub(crate) async fn token_endpoint(
        &self,
        tenant: &str,
        now: Now,
    ) -> Result<String, Unidentified> {
        let discovery = self.keys.discovery(&self.http, &self.settings, tenant, now);
        Ok(discovery.await?.token_endpoint.clone())
    }

    async fn client_credentials(
        &self,
        workload: &WorkloadIdentity,
        scope: &str,
        proof: ClientProof<'_>,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        let endpoint = self.token_endpoint(&workload.tenant, now).await?;
        self.ask_token(&Form {
            endpoint: &endpoint,
            client_id: &workload.client_id,
            scope,
            proof,
            fmi_path: None,
        })
        .await
    }

    /// Two steps: the blueprint gets an assertion for the agent identity, which gets the token.
    async fn agent(
        &self,
        workload: &WorkloadIdentity,
        (blueprint, scope): (&str, &str),
        assertion: &Secret,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        let endpoint = self.token_endpoint(&workload.tenant, now).await?;
        let first = format!("{EXCHANGE_RESOURCE}/.default");
        let exchanged = self
            .ask_token(&Form {
                endpoint: &endpoint,
                client_id: blueprint,
                scope: &first,
                proof: ClientProof::Assertion(assertion),
                fmi_path: Some(&workload.client_id),
            })
            .await?;
        let proof = ClientProof::Assertion(&exchanged);
        self.client_credentials(workload, scope, proof, now).await
    }

    async fn ask_token(&self, form: &Form<'_>) -> Result<Secret, Unidentified> {
        let mut fields = vec![
            ("client_id", form.client_id),
            ("grant_type", "client_credentials"),
            ("scope", form.scope),
        ];
        match form.proof {
            ClientProof::Assertion(assertion) => {
                fields.push(("client_assertion_type", ASSERTION_TYPE));
                fields.push(("client_assertion", assertion.expose()));
            }
            ClientProof::Secret(secret) => fields.push(("client_secret", secret.expose())),
        }
        if let Some(agent) = form.fmi_path {
            fields.push(("fmi_path", agent));
        }
        let answer = self.http.post_form(form.endpoint, &fields).await?;
        Ok(minted(&answer)?.access_token)
    }

    /// The machine's own token. The metadata service may be anybody on this machine: signature and
    /// client are checked as of any other token.
    async fn managed(
        &self,
        workload: &WorkloadIdentity,
        scope: &str,
    ) -> Result<Secret, Unidentified> {
        let resource = scope.trim_end_matches("/.default");
        let url = self.metadata_url(&workload.client_id, resource);
        let answer = self.metadata.get_with(&url, ("metadata", "true")).await?;
        metadata_token(&answer)
    }

    fn metadata_url(&self, client_id: &str, resource: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("api-version", METADATA_API_VERSION)
            .append_pair("resource", resource)
            .append_pair("client_id", client_id);
        format!(
            "{}/metadata/identity/oauth2/token?{}",
            self.settings.metadata,
            query.finish()
        )
    }
}

/// Source: the vendor's page on tokens from the metadata service. Its numbers are strings and are
/// not read: lifetimes come from the validated token.
fn metadata_token(answer: &Answer) -> Result<Secret, Unidentified> {
    match answer.status {
        200 => serde_json::from_slice::<MetadataBody>(&answer.body)
            .map(|body| Secret::new(body.access_token))
            .map_err(|_| Unidentified::Malformed {
                what: "metadata answer",
            }),
        400 => Err(Unidentified::NotConfigured(
            "the metadata service has no such identity on this machine: assign it, or correct client_id",
        )),
        // It says these while it is updated or the identity is being assigned.
        404 | 410 => Err(Unidentified::Away {
            what: "the metadata service (starting)",
        }),
        status => Err(Unidentified::unexpected_status(
            "a metadata request",
            status,
        )),
    }
}
