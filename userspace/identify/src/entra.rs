//! Entra's refusals, by their AADSTS number.
//!
//! Source: the vendor's error reference; numbers other than 70021 await a live tenant.

use serde::Deserialize;

/// What a refusal means for the binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// No federated credential matches; changes there take minutes to spread.
    NoCredential,
    /// App, tenant or resource unknown: a matter of set-up.
    SetUp,
    /// The assertion is outside its time range.
    AssertionTime,
    /// The assertion's signature does not hold.
    AssertionSignature,
    /// Disabled, not assigned, or blocked by Conditional Access: the binding ends.
    Revoked,
    /// The person declined, or the code is no longer good.
    SignInEnded,
    /// A number that Weir does not know.
    Other,
}

/// A refusal by Entra's token endpoint. Holds no text of Entra's, only numbers and ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraRefusal {
    pub kind: RefusalKind,
    /// The first AADSTS number, 0 when the answer had none.
    pub number: u32,
    /// For the search in Entra's sign-in log.
    pub trace_id: Option<String>,
    pub correlation_id: Option<String>,
}

/// The JSON of a refusal.
#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) error: String,
    #[serde(default)]
    error_codes: Vec<u32>,
    error_description: Option<String>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
}

impl EntraRefusal {
    pub(crate) fn from_body(body: ErrorBody) -> Self {
        let described = body.error_description.as_deref().and_then(number_in);
        let number = body.error_codes.first().copied().or(described).unwrap_or(0);
        let mut kind = advice(number).0;
        if kind == RefusalKind::Other && body.error == "unauthorized_client" {
            kind = RefusalKind::Revoked;
        }
        Self {
            kind,
            number,
            trace_id: body.trace_id.filter(|id| crate::guid::is_guid(id)),
            correlation_id: body.correlation_id.filter(|id| crate::guid::is_guid(id)),
        }
    }

    /// Of the error that a browser came back with; its texts are the other side's.
    pub(crate) fn from_answer(error: String, description: Option<String>) -> Self {
        let declined = error == "access_denied";
        let mut refusal = Self::from_body(ErrorBody {
            error,
            error_codes: Vec::new(),
            error_description: description,
            trace_id: None,
            correlation_id: None,
        });
        if refusal.kind == RefusalKind::Other && declined {
            refusal.kind = RefusalKind::SignInEnded;
        }
        refusal
    }

    /// `AADSTSnnnn: what it means and what to do`, with the ids to search for.
    #[must_use]
    pub fn operator_text(&self) -> String {
        let mut text = format!("AADSTS{}: {}", self.number, advice(self.number).1);
        if let Some(trace) = &self.trace_id {
            text.push_str("; trace id ");
            text.push_str(trace);
        }
        if let Some(correlation) = &self.correlation_id {
            text.push_str(", correlation id ");
            text.push_str(correlation);
        }
        text
    }
}

/// `AADSTS700213: …` → 700213.
fn number_in(description: &str) -> Option<u32> {
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

fn advice(number: u32) -> (RefusalKind, &'static str) {
    match number {
        70021 | 700_211 => (
            RefusalKind::NoCredential,
            "no federated credential has this issuer; compare it with the cluster's issuer URL, \
             trailing slash included (a new credential needs minutes to spread)",
        ),
        700_213 => (
            RefusalKind::NoCredential,
            "no federated credential has this subject; add one for \
             system:serviceaccount:<namespace>:<name>, or correct the workload's client_id",
        ),
        700_212 => (
            RefusalKind::NoCredential,
            "no federated credential has this audience; it must be the assertion's own audience",
        ),
        700_024 => (
            RefusalKind::AssertionTime,
            "the service-account token is outside its time range; check that the token file is \
             renewed and that this node's clock is right",
        ),
        700_027 | 7_000_272 | 50027 => (
            RefusalKind::AssertionSignature,
            "the service-account token's signature was refused; check that the issuer publishes \
             its current keys where Entra can read them",
        ),
        53_000..=53_004 | 530_001..=530_099 => (
            RefusalKind::Revoked,
            "Conditional Access blocked the sign-in; see its log (device codes are often blocked: \
             sign in by the browser)",
        ),
        7_000_112 => (
            RefusalKind::Revoked,
            "the application is disabled; enable its service principal if that was not meant",
        ),
        50105 | 501_051 => (
            RefusalKind::Revoked,
            "the application is not assigned to the enforcer; assign it the required app role",
        ),
        50057 => (RefusalKind::Revoked, "the account is disabled"),
        70018 | 65_004 => (RefusalKind::SignInEnded, "the sign-in was declined"),
        70020 | 70019 | 70000 => (
            RefusalKind::SignInEnded,
            "the code is no longer good; start the sign-in again",
        ),
        _ => set_up(number),
    }
}

/// What somebody has to put right in a registration or in the configuration.
fn set_up(number: u32) -> (RefusalKind, &'static str) {
    match number {
        700_016 => (
            RefusalKind::SetUp,
            "the application is not in this tenant; check the workload's client_id and tenant",
        ),
        90002 => (
            RefusalKind::SetUp,
            "the tenant does not exist; check the workload's tenant",
        ),
        500_011 => (
            RefusalKind::SetUp,
            "the enforcer's API is not in this tenant; check identity.audience and consent",
        ),
        50_011 => (
            RefusalKind::SetUp,
            "the redirect is not registered; add http://127.0.0.1 to the public client's \
             registration (by its manifest: the portal's form does not take it)",
        ),
        1_002_012 => (
            RefusalKind::SetUp,
            "the scope was refused; this is a defect of Weir",
        ),
        7_000_215 | 7_000_222 => (
            RefusalKind::SetUp,
            "the client secret is wrong or has expired; put a new one into the workload's \
             secret_file, or better use a certificate or federation",
        ),
        7_000_229 => (
            RefusalKind::SetUp,
            "the blueprint has no such agent identity; check the workload's client_id and blueprint",
        ),
        0 => (
            RefusalKind::Other,
            "Entra refused without a number; see its sign-in log",
        ),
        _ => of_people(number),
    }
}

/// What somebody meets who signs in by browser or device code.
fn of_people(number: u32) -> (RefusalKind, &'static str) {
    match number {
        7_000_218 => (
            RefusalKind::SetUp,
            "the client is registered as confidential; for people allow public client flows on \
             the registration of identity.reviewer_client_id",
        ),
        9_002_325 | 9_002_326 => (
            RefusalKind::SetUp,
            "the redirect is registered for single-page applications; register it as one of a \
             mobile or desktop application",
        ),
        65_001 | 90_094 => (
            RefusalKind::SetUp,
            "consent is missing; let an administrator consent to the scope of Weir's API for this \
             client",
        ),
        650_053 | 70_011 => (
            RefusalKind::SetUp,
            "the scope does not exist; add identity.reviewer_scope to Weir's registration \
             (Expose an API)",
        ),
        50_076 | 50_079 | 50_158 => (
            RefusalKind::SignInEnded,
            "another factor is needed; sign in again by the browser",
        ),
        50_173 | 70_043 | 700_082 => (
            RefusalKind::Revoked,
            "the person's sign-in has ended (password changed, revoked, or too old); sign in again",
        ),
        50_034 => (
            RefusalKind::Revoked,
            "the account is not in this tenant; check the tenant, and whether it was deleted",
        ),
        _ => (
            RefusalKind::Other,
            "look the number up in the vendor's error reference",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{EntraRefusal, ErrorBody, RefusalKind};

    fn refusal(json: &str) -> EntraRefusal {
        EntraRefusal::from_body(serde_json::from_str::<ErrorBody>(json).unwrap())
    }

    #[test]
    fn the_number_comes_from_the_codes_or_the_description() {
        let by_code = refusal(r#"{"error":"invalid_client","error_codes":[700213]}"#);
        let by_text = refusal(
            r#"{"error":"invalid_client","error_description":"AADSTS700213: No matching…"}"#,
        );
        assert_eq!(by_code.number, 700_213);
        assert_eq!(by_text, by_code);
        assert!(
            by_code
                .operator_text()
                .starts_with("AADSTS700213: no federated credential")
        );
    }

    #[test]
    fn any_unauthorized_client_revokes_unless_the_number_says_otherwise() {
        assert_eq!(
            refusal(r#"{"error":"unauthorized_client"}"#).kind,
            RefusalKind::Revoked
        );
        let unknown_app = refusal(r#"{"error":"unauthorized_client","error_codes":[700016]}"#);
        assert_eq!(unknown_app.kind, RefusalKind::SetUp);
    }

    #[test]
    fn text_of_the_other_side_is_never_repeated() {
        let refusal = refusal(
            r#"{"error":"x","error_description":"AADSTS1: <script>","trace_id":"<script>"}"#,
        );
        assert!(!refusal.operator_text().contains("script"));
        assert_eq!(refusal.number, 1);
    }
}
