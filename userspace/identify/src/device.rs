//! Signs a person in by device code (RFC 8628, with Entra's error names).
//!
//! The caller polls: no task and no timer lives here.

use std::sync::Arc;

use serde::Deserialize;
use weir_model::ident::Principal;
use weir_model::time::Now;

use crate::Identify;
use crate::federated::{TokenAnswer, minted};
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::sign_in::Asked;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Seconds between polls when Entra does not say (RFC 8628, section 3.2).
const INTERVAL_S_DEFAULT: u64 = 5;
/// Longest text that is shown to a person.
const SHOWN_BYTES_MAX: usize = 256;

/// A sign-in under way; not shown to anyone.
#[derive(Clone, Debug)]
pub struct DeviceHandle {
    device_code: Arc<Secret>,
    tenant: Arc<str>,
    client_id: Arc<str>,
}

/// What the person has to do, and by when.
#[derive(Clone, Debug)]
pub struct DeviceStart {
    pub user_code: String,
    pub verification_uri: String,
    pub expires_s: u64,
    /// Seconds to wait between polls.
    pub interval_s: u64,
    pub handle: DeviceHandle,
}

/// Where a sign-in stands.
#[derive(Clone, Debug)]
pub enum DevicePoll {
    Pending,
    /// Wait five seconds longer between polls from now on.
    SlowDown,
    Done(Arc<Principal>),
    Refused(Unidentified),
}

/// A person who has signed in.
#[derive(Debug)]
pub struct Signed {
    pub principal: Arc<Principal>,
    /// Name to show, where a sign-in by browser gave one. Nothing is decided by it.
    pub shown: Option<String>,
    /// Only where the sign-in asked for one.
    pub(crate) refresh: Option<Secret>,
}

#[derive(Deserialize)]
struct DeviceBody {
    device_code: String,
    user_code: String,
    verification_uri: String,
    expires_in: u64,
    interval: Option<u64>,
}

impl Identify {
    /// Starts a sign-in at the first configured tenant.
    ///
    /// # Errors
    /// [`Unidentified::NotConfigured`] without `reviewer_client_id`; else what the authority said.
    pub async fn device_begin(&self) -> Result<DeviceStart, Unidentified> {
        self.device_begin_at(weir_clock::now()).await
    }

    /// As [`Self::device_begin`], with the time given.
    ///
    /// # Errors
    /// The same.
    pub async fn device_begin_at(&self, now: Now) -> Result<DeviceStart, Unidentified> {
        self.device_begin_for(&self.reviewers_scope(), now).await
    }

    /// As [`Self::device_begin`], for a sign-in that is renewed while a process tree lives.
    ///
    /// # Errors
    /// The same.
    pub async fn device_begin_offline(&self) -> Result<DeviceStart, Unidentified> {
        self.device_begin_for(&self.persons_scope(), weir_clock::now())
            .await
    }

    async fn device_begin_for(&self, scope: &str, now: Now) -> Result<DeviceStart, Unidentified> {
        let settings = &self.settings;
        let client_id = settings
            .reviewer_client_id
            .as_ref()
            .ok_or(Unidentified::NotConfigured(
                "sign-in of people needs identity.reviewer_client_id",
            ))?;
        let tenant = settings
            .tenants
            .first()
            .ok_or(Unidentified::TenantNotAllowed)?;
        let discovery = self
            .keys
            .discovery(&self.http, settings, tenant, now)
            .await?;
        let endpoint = discovery.device_authorization_endpoint.as_deref().ok_or(
            Unidentified::NotConfigured("this authority offers no device code sign-in"),
        )?;
        let fields = [("client_id", &**client_id), ("scope", scope)];
        let answer = self.http.post_form(endpoint, &fields).await?;
        if answer.status != 200 {
            return Err(match minted(&answer) {
                Err(refused) => refused.into(),
                Ok(_) => Unidentified::unexpected_status("a device code request", answer.status),
            });
        }
        let body: DeviceBody =
            serde_json::from_slice(&answer.body).map_err(|_| Unidentified::Malformed {
                what: "device code answer",
            })?;
        if !shows_well(&body.user_code) || !shows_well(&body.verification_uri) {
            return Err(Unidentified::Malformed {
                what: "device code texts",
            });
        }
        Ok(DeviceStart {
            user_code: body.user_code,
            verification_uri: body.verification_uri,
            expires_s: body.expires_in,
            interval_s: body.interval.unwrap_or(INTERVAL_S_DEFAULT).max(1),
            handle: DeviceHandle {
                device_code: Arc::new(Secret::new(body.device_code)),
                tenant: Arc::clone(tenant),
                client_id: Arc::clone(client_id),
            },
        })
    }

    /// Asks once whether the person is done.
    ///
    /// A network failure is [`DevicePoll::Pending`]: the code lives on.
    pub async fn device_poll(&self, handle: &DeviceHandle, now: Now) -> DevicePoll {
        match self.poll_once(handle, now).await {
            Ok(Polled::Done(signed)) => DevicePoll::Done(signed.principal),
            Ok(Polled::Pending) => DevicePoll::Pending,
            Ok(Polled::SlowDown) => DevicePoll::SlowDown,
            Err(refusal) if refusal.is_transient() => DevicePoll::Pending,
            Err(refusal) => DevicePoll::Refused(refusal),
        }
    }

    /// As [`Self::device_poll`], with what renews the sign-in; `None` while it is pending.
    ///
    /// # Errors
    /// The sign-in was refused.
    pub async fn device_poll_signed(
        &self,
        handle: &DeviceHandle,
        now: Now,
    ) -> Result<Option<Signed>, Unidentified> {
        match self.poll_once(handle, now).await {
            Ok(Polled::Done(signed)) => Ok(Some(signed)),
            Ok(Polled::Pending | Polled::SlowDown) => Ok(None),
            Err(refusal) if refusal.is_transient() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn poll_once(&self, handle: &DeviceHandle, now: Now) -> Result<Polled, Unidentified> {
        let settings = &self.settings;
        let discovery = self
            .keys
            .discovery(&self.http, settings, &handle.tenant, now)
            .await?;
        let fields = [
            ("grant_type", DEVICE_GRANT),
            ("client_id", &*handle.client_id),
            ("device_code", handle.device_code.expose()),
        ];
        let answer = self
            .http
            .post_form(&discovery.token_endpoint, &fields)
            .await?;
        match minted(&answer) {
            Ok(tokens) => {
                let asked = Asked {
                    tenant: &handle.tenant,
                    client_id: &handle.client_id,
                    nonce: None,
                };
                let principal = self.person(&asked, &tokens, now).await?;
                let refresh = tokens.refresh_token;
                let shown = None;
                Ok(Polled::Done(Signed {
                    principal,
                    refresh,
                    shown,
                }))
            }
            Err(TokenAnswer::Refused(body)) if body.error == "authorization_pending" => {
                Ok(Polled::Pending)
            }
            Err(TokenAnswer::Refused(body)) if body.error == "slow_down" => Ok(Polled::SlowDown),
            Err(other) => Err(other.into()),
        }
    }
}

enum Polled {
    Pending,
    SlowDown,
    Done(Signed),
}

/// Printable ASCII only: it goes to a person's terminal.
fn shows_well(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= SHOWN_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}
