//! Why a token was refused: one variant per reason, each belonging to one step.

/// Names of the steps, step 1 first.
pub const STEP_NAMES: [&str; 18] = [
    "encoding",
    "header",
    "algorithm",
    "header members",
    "key id",
    "key",
    "signature",
    "claims",
    "tenant",
    "issuer",
    "key issuer",
    "audience",
    "time",
    "subject",
    "kind of token",
    "authorisation",
    "groups",
    "binding",
];

/// What is no token at all may be somebody's password: say what is wanted.
const NO_TOKEN: &str = "weir: this takes an Entra access token for Weir's API, and that was none \
    (step 1): get one with `az account get-access-token --scope api://CLIENT_ID_OF_WEIR/.default \
    --query accessToken -o tsv`";

macro_rules! refusals {
    ($($variant:ident $step:literal $code:literal $text:literal,)+) => {
        /// The first rule that a token broke.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum TokenRefusal {
            $(#[error($text)] $variant,)+
        }

        impl TokenRefusal {
            /// All reasons, in the order of the steps.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Number of the step, from 1.
            #[must_use]
            pub const fn step(self) -> u8 {
                match self { $(Self::$variant => $step,)+ }
            }

            /// Metric label and record text.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// For whoever presented the token; a fixed sentence.
            #[must_use]
            pub const fn presenter_text(self) -> &'static str {
                if matches!(
                    self,
                    Self::NotThreeParts | Self::NotBase64Url | Self::HeaderNotObject
                ) {
                    return NO_TOKEN;
                }
                match self {
                    $(Self::$variant => concat!(
                        "weir: the access token was refused at step ", $step, ": ", $text
                    ),)+
                }
            }
        }
    };
}

refusals! {
    TooLong 1 "token_too_long" "the token is longer than 16 KiB",
    NotThreeParts 1 "token_not_three_parts" "the token is not three non-empty parts",
    NotBase64Url 1 "token_not_base64url" "a part is not strict base64url",
    HeaderNotObject 2 "header_not_object" "the header is not a JSON object",
    HeaderMalformed 2 "header_malformed" "the header has a wrong type or a duplicate member",
    Algorithm 3 "algorithm" "alg is not RS256",
    Type 3 "type" "typ is not JWT",
    HeaderMember 4 "header_member" "the header has a member that Weir never accepts (crit, jwk, jku, x5u, x5c, nonce, b64, zip, enc)",
    KidMissing 5 "kid_missing" "the header has no kid",
    KidMalformed 5 "kid_malformed" "the kid is not 1 to 256 characters of [A-Za-z0-9_-]",
    UnknownKey 6 "unknown_key" "the tenant publishes no usable key with this kid",
    Signature 7 "signature" "the signature does not hold",
    ClaimsNotObject 8 "claims_not_object" "the claims are not a JSON object",
    ClaimsMalformed 8 "claims_malformed" "a claim has a wrong type or is there twice",
    TenantMalformed 9 "tenant_malformed" "tid is missing or not a lower-case GUID",
    TenantNotAllowed 9 "tenant_not_allowed" "the tenant is not one of identity.tenants",
    Version 10 "version" "ver is not 2.0: set requestedAccessTokenVersion to 2 on the enforcer's registration",
    Issuer 10 "issuer" "iss is not the tenant's v2 issuer at this authority",
    KeyOfOtherTenant 11 "key_of_other_tenant" "the key is not published for the token's tenant",
    KeyIssuer 11 "key_issuer" "the key is published for another issuer",
    Audience 12 "audience" "aud is not the enforcer's client id",
    TimeMissing 13 "time_missing" "exp, nbf or iat is missing",
    Expired 13 "expired" "the token has expired (or this node's clock is fast)",
    NotYetValid 13 "not_yet_valid" "the token is not valid yet (or this node's clock is slow)",
    IssuedInFuture 13 "issued_in_future" "the token was issued in the future (or this node's clock is slow)",
    ExpiresBeforeIssued 13 "expires_before_issued" "exp is not after iat",
    LifeTooLong 13 "life_too_long" "the token lives longer than 28 h",
    IdToken 14 "id_token" "this is an id_token, not an access token",
    ObjectId 14 "object_id" "oid is missing, zero or not a lower-case GUID",
    ClientId 14 "client_id" "azp is missing, zero or not a lower-case GUID",
    Story 15 "kind_unclear" "the token is neither clearly app-only (idtyp=app, no scp) nor clearly delegated (scp)",
    RoleMissing 16 "role_missing" "the required app role is missing: assign it to the principal on the enforcer's registration",
    ClientAuthentication 16 "client_authentication" "azpacr is not 1 or 2: the client did not authenticate",
    ScopeMissing 16 "scope_missing" "the required delegated scope is missing",
    GroupsContradiction 17 "groups_contradiction" "the token both lists groups and says that they are elsewhere",
    GroupsTooMany 17 "groups_too_many" "the token lists more than 200 groups",
    GroupsNotGuid 17 "groups_not_guid" "a group is not a lower-case GUID: configure the groups claim to emit object ids",
    Nonce 18 "nonce" "the id_token is not of this sign-in (nonce)",
    BindTenant 18 "bind_tenant" "the token is for another tenant than was asked",
    BindClient 18 "bind_client" "the token is for another client than was asked",
    BindBlueprint 18 "bind_blueprint" "the token is of another blueprint than was asked",
    PresentedTenant 18 "presented_tenant" "the token is of another tenant than the workload that presents it",
    PresentedByOther 18 "presented_by_other" "the token is another workload's own, which that workload alone may present",
    BindKind 18 "bind_kind" "the token is for another kind of principal than was asked",
}

impl TokenRefusal {
    /// Name of the step.
    #[must_use]
    pub fn step_name(self) -> &'static str {
        STEP_NAMES
            .get(usize::from(self.step()) - 1)
            .copied()
            .unwrap_or("unknown")
    }
}
