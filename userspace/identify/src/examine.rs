//! What `weir doctor` finds out about Entra: the clock, the registrations as far as a token shows
//! them. Nothing is bound and nothing is kept.

use weir_model::time::Now;

use crate::Identify;
use crate::bind::WorkloadIdentity;
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::validate::TokenRefusal;
use crate::verdict::ClaimsSummary;

/// How far this node's clock is from the authority's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    /// Seconds that this node is ahead; negative when it is behind.
    pub ahead_s: i64,
    /// `identity.clock_skew_s`: beyond it tokens are refused.
    pub allowed_s: i64,
}

impl Identify {
    /// Compares the clock with the `Date` of the authority's answer (RFC 9110, section 6.6.1), which
    /// has whole seconds; half of the time that the answer took is counted as its way back.
    ///
    /// # Errors
    /// The authority does not answer, or without a date.
    pub async fn clock_skew(&self) -> Result<ClockSkew, Unidentified> {
        let tenant = self.settings.tenants.first();
        let tenant = tenant.ok_or(Unidentified::TenantNotAllowed)?;
        let before = weir_clock::now();
        let url = self.settings.authority.discovery(tenant);
        let answer = self.http.get(&url).await?;
        let after = weir_clock::now();
        let date_s = answer.date_s.ok_or(Unidentified::Malformed {
            what: "Date of its answer",
        })?;
        let middle_s = i64::midpoint(before.unix_s(), after.unix_s());
        Ok(ClockSkew {
            ahead_s: middle_s - date_s,
            allowed_s: self.settings.clock_skew_s,
        })
    }

    /// Signs in once as `identity` and validates the token, as binding it would.
    ///
    /// # Errors
    /// As a sign-in's; see [`registration_advice`].
    pub async fn examine(
        &self,
        identity: &WorkloadIdentity,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<ClaimsSummary, Unidentified> {
        let accepted = self.sign_in(identity, handed, now).await?;
        Ok(ClaimsSummary::of(&accepted, &self.settings.authority.cloud))
    }
}

/// What a refused token says about Weir's own registration, where that can be told: token version
/// 2, the app role, assignment required, the optional claim `idtyp`.
#[must_use]
pub fn registration_advice(error: &Unidentified) -> Option<&'static str> {
    const ADVICE: [(TokenRefusal, &str); 5] = [
        (
            TokenRefusal::Version,
            "in the manifest of Weir's registration set api.requestedAccessTokenVersion to 2",
        ),
        (
            TokenRefusal::RoleMissing,
            "Entra gave a token without the role, so 'Assignment required' is off on Weir's \
             enterprise application: turn it on, and assign the role to this principal",
        ),
        (
            TokenRefusal::Story,
            "add the optional claim idtyp to the access tokens of Weir's registration",
        ),
        (
            TokenRefusal::Audience,
            "identity.audience must be the client id of the registration that the token is for",
        ),
        (
            TokenRefusal::GroupsNotGuid,
            "let the groups claim of Weir's registration emit object ids, not names",
        ),
    ];
    let Unidentified::Token { refusal } = error else {
        return None;
    };
    let known = ADVICE.iter().find(|(of, _)| of == refusal);
    known.map(|(_, advice)| *advice)
}
