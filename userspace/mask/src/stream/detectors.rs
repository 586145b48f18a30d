//! The built-in detectors: what each looks for.

use std::ops::Range;

use super::checks;

/// Something that is found by its form, and by its check digits where it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// ISO/IEC 7812: 12 to 19 digits, issuer ranges and their lengths, Luhn; spaces or dashes between.
    PaymentCard,
    /// ISO 13616: length of the country, remainder 1 modulo 97; spaces between.
    Iban,
    /// `AAA-GG-SSSS` without the numbers that are never issued.
    UsSsn,
    Email,
    /// E.164 with `+`: 8 to 15 digits.
    Phone,
    AwsAccessKeyId,
    /// Only after its name, as it has no form of its own.
    AwsSecretKey,
    /// Classic and fine-grained tokens. Their check digits are not asked for: a token whose check is
    /// computed in a way that is not known here must not be shown.
    Github,
    Gitlab,
    Slack,
    /// Live keys only.
    Stripe,
    GoogleApiKey,
    /// `AccountKey=` of a connection string, `sig=` of a shared access signature.
    AzureStorage,
    AzureClientSecret,
    Npm,
    Pypi,
    OpenAi,
    Anthropic,
    /// Three parts, of which the first is JSON with `alg`.
    Jwt,
    /// From `BEGIN … PRIVATE KEY` to its end; without an end, all lines that look like a key's.
    PrivateKey,
    /// The value in `password=…`, `PGPASSWORD=…`, `password: …`.
    Password,
    /// The password in `scheme://user:password@`.
    UrlPassword,
}

impl Detector {
    pub const ALL: [Self; 22] = [
        Self::PaymentCard,
        Self::Iban,
        Self::UsSsn,
        Self::Email,
        Self::Phone,
        Self::AwsAccessKeyId,
        Self::AwsSecretKey,
        Self::Github,
        Self::Gitlab,
        Self::Slack,
        Self::Stripe,
        Self::GoogleApiKey,
        Self::AzureStorage,
        Self::AzureClientSecret,
        Self::Npm,
        Self::Pypi,
        Self::OpenAi,
        Self::Anthropic,
        Self::Jwt,
        Self::PrivateKey,
        Self::Password,
        Self::UrlPassword,
    ];

    /// The name in configuration and in what replaces a match.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentCard => "payment-card",
            Self::Iban => "iban",
            Self::UsSsn => "us-ssn",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::AwsAccessKeyId => "aws-access-key-id",
            Self::AwsSecretKey => "aws-secret-key",
            Self::Github => "github-token",
            Self::Gitlab => "gitlab-token",
            Self::Slack => "slack-token",
            Self::Stripe => "stripe-key",
            Self::GoogleApiKey => "google-api-key",
            Self::AzureStorage => "azure-storage",
            Self::AzureClientSecret => "azure-client-secret",
            Self::Npm => "npm-token",
            Self::Pypi => "pypi-token",
            Self::OpenAi => "openai-key",
            Self::Anthropic => "anthropic-key",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::Password => "password",
            Self::UrlPassword => "url-password",
        }
    }

    /// The detector of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Regular expressions over ASCII. `\b{start-half}` and `\b{end-half}` look at one side only, so
    /// that punctuation may belong to a match. What begins with a distinctive text has no boundary
    /// before it: in `\nghp_…` of a JSON text a letter comes first.
    pub(super) const fn expressions(self) -> &'static [&'static str] {
        match self {
            Self::PaymentCard => &[r"\b{start-half}[0-9](?:[ -]?[0-9]){11,18}\b{end-half}"],
            Self::Iban => &[r"\b{start-half}[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}\b{end-half}"],
            Self::UsSsn => &[r"\b{start-half}[0-9]{3}-[0-9]{2}-[0-9]{4}\b{end-half}"],
            Self::Email => &[
                r"\b{start-half}[A-Za-z0-9_][A-Za-z0-9._%+-]{0,63}@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24}\b{end-half}",
            ],
            Self::Phone => &[
                r"\b{start-half}\+[1-9][0-9]{0,2}(?:[ .-]?\([0-9]{1,4}\))?(?:[ .-]?[0-9]){5,14}\b{end-half}",
            ],
            Self::AwsAccessKeyId => {
                &[r"\b{start-half}(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b{end-half}"]
            }
            Self::AwsSecretKey => &[
                r#"(?i:secret_?(?:access_?)?key)["']?[ \t]{0,8}[=:]>?[ \t]{0,8}["']?[A-Za-z0-9/+]{40}"#,
            ],
            Self::Github => &[
                r"gh[opusr]_[A-Za-z0-9]{36,255}",
                r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
            ],
            Self::Gitlab => &[
                r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt|oas|ffct)-[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9._-]+)?",
            ],
            Self::Slack => &[
                r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
                r"xapp-[0-9]-[A-Za-z0-9-]{10,}",
            ],
            Self::Stripe => &[r"[rs]k_live_[A-Za-z0-9]{16,}"],
            Self::GoogleApiKey => &[r"AIza[A-Za-z0-9_-]{35}"],
            Self::AzureStorage => &[
                r"(?i:AccountKey=)[A-Za-z0-9+/]{86}==",
                r"(?i:\b{start-half}sig=)(?:[A-Za-z0-9+/]|%2[BbFf]){43}(?:=|%3[Dd])",
            ],
            Self::AzureClientSecret => {
                &[r"\b{start-half}[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"]
            }
            Self::Npm => &[r"npm_[A-Za-z0-9]{36}"],
            Self::Pypi => &[r"pypi-AgEI[A-Za-z0-9_-]{50,}"],
            Self::OpenAi => &[
                r"sk-[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20}",
                r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}",
            ],
            Self::Anthropic => &[r"sk-ant-[a-z0-9]{2,12}-[A-Za-z0-9_-]{80,}"],
            Self::Jwt => &[r"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*"],
            Self::PrivateKey => &[concat!(
                r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
                r#"(?:(?:\r?\n|\\n|\\r\\n)[ \t>|"]*(?:[A-Za-z0-9+/=]*|[A-Za-z-]+: [^\r\n]*)[ \t]*)*"#,
                r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
            )],
            Self::Password => &[concat!(
                r#"(?i:password|passwd|passphrase|pgpass)["']?(?:[ \t]{0,8}=|:)[ \t]{0,8}"#,
                r#"(?:"[^"\r\n]+"?|'[^'\r\n]+'?|[^\s"'&;,()\[\]{}<>]+)"#,
            )],
            Self::UrlPassword => {
                &[r#"\b{start-half}[A-Za-z][A-Za-z0-9+.-]{0,19}://[^\s/:@"'<>]*:[^\s/@"'<>]+@"#]
            }
        }
    }

    /// Whether a shorter match may pass where a longer one fails.
    pub(super) const fn is_checked(self) -> bool {
        matches!(
            self,
            Self::PaymentCard | Self::Iban | Self::UsSsn | Self::Phone
        )
    }

    /// The secret part of a text of this form; `None` when a check fails.
    pub(super) fn secret(self, text: &[u8]) -> Option<Range<usize>> {
        let all = 0..text.len();
        match self {
            Self::PaymentCard => checks::payment_card(text).then_some(all),
            Self::Iban => checks::iban(text).then_some(all),
            Self::UsSsn => checks::us_ssn(text).then_some(all),
            Self::Phone => checks::phone(text).then_some(all),
            Self::Jwt => checks::jwt(text).then_some(all),
            Self::Password => checks::assigned(text),
            Self::UrlPassword => checks::url_password(text),
            Self::AwsSecretKey => Some(text.len().checked_sub(40)?..text.len()),
            Self::AzureStorage => {
                let name = text.iter().position(|byte| *byte == b'=')?;
                Some(name + 1..text.len())
            }
            Self::Email
            | Self::AwsAccessKeyId
            | Self::Github
            | Self::Gitlab
            | Self::Slack
            | Self::Stripe
            | Self::GoogleApiKey
            | Self::AzureClientSecret
            | Self::Npm
            | Self::Pypi
            | Self::OpenAi
            | Self::Anthropic
            | Self::PrivateKey => Some(all),
        }
    }
}
