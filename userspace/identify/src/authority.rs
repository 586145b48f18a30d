//! Which Entra: a cloud by name, or an origin.

use std::sync::Arc;

use url::Url;

/// Where tenants live. All URLs that Weir calls for identity are on `origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Part of a principal's key: `public`, `usgov`, `china`, `loopback`, or the origin's host.
    pub cloud: Arc<str>,
    /// Scheme, host and port without a trailing slash.
    pub origin: Arc<str>,
    /// Audience that a federated assertion must have here.
    pub exchange_audience: Arc<str>,
    /// Plain http, on loopback only.
    pub plain: bool,
}

/// Cloud name, host, audience of federated assertions.
///
/// Source: the vendor's national-cloud pages; federation outside `public` is untested.
const CLOUDS: [(&str, &str, &str); 3] = [
    (
        "public",
        "login.microsoftonline.com",
        "api://AzureADTokenExchange",
    ),
    (
        "usgov",
        "login.microsoftonline.us",
        "api://AzureADTokenExchangeUSGov",
    ),
    (
        "china",
        "login.partner.microsoftonline.cn",
        "api://AzureADTokenExchangeChina",
    ),
];

impl Authority {
    /// Reads a cloud's name or an origin.
    ///
    /// # Errors
    /// What is wrong with `text`, for the operator.
    pub fn parse(text: &str, allow_plain_loopback: bool) -> Result<Self, String> {
        if let Some(known) = CLOUDS.iter().find(|(name, host, _)| {
            text == *name || text.trim_end_matches('/') == format!("https://{host}")
        }) {
            let (cloud, host, audience) = *known;
            return Ok(Self {
                cloud: cloud.into(),
                origin: format!("https://{host}").into(),
                exchange_audience: audience.into(),
                plain: false,
            });
        }
        let url = Url::parse(text)
            .map_err(|_| "must be public, usgov, china or an https origin".to_owned())?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("must be an origin: no path, query or fragment".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not carry a user or password".to_owned());
        }
        let host = url
            .host_str()
            .ok_or_else(|| "must name a host".to_owned())?
            .to_owned();
        let plain = match url.scheme() {
            "https" => false,
            "http" => plain_allowed(&url, allow_plain_loopback)?,
            _ => return Err("must be https".to_owned()),
        };
        let cloud = if plain { "loopback".to_owned() } else { host };
        Ok(Self {
            cloud: cloud.into(),
            origin: url.origin().ascii_serialization().into(),
            exchange_audience: CLOUDS[0].2.into(),
            plain,
        })
    }

    /// A plain http URL on loopback.
    pub(crate) fn parse_local(text: &str) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|_| "must be a URL".to_owned())?;
        if url.scheme() != "http" {
            return Err("must be http".to_owned());
        }
        plain_allowed(&url, true).map(|_| url)
    }

    /// `iss` of the tenant's v2 tokens.
    #[must_use]
    pub fn issuer(&self, tenant: &str) -> String {
        format!("{}/{tenant}/v2.0", self.origin)
    }

    /// The tenant's v2 discovery document.
    #[must_use]
    pub fn discovery(&self, tenant: &str) -> String {
        format!(
            "{}/{tenant}/v2.0/.well-known/openid-configuration",
            self.origin
        )
    }

    /// Whether a URL from a discovery document may be called.
    #[must_use]
    pub fn owns(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| {
            url.origin().ascii_serialization() == *self.origin
                && url.username().is_empty()
                && url.password().is_none()
        })
    }
}

fn plain_allowed(url: &Url, allow_plain_loopback: bool) -> Result<bool, String> {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    };
    match (loopback, allow_plain_loopback) {
        (true, true) => Ok(true),
        (true, false) => Err("plain http needs allow_plain_loopback: true (tests only)".to_owned()),
        (false, _) => Err("plain http is for loopback addresses only: use https".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Authority;

    #[test]
    fn clouds_by_name_and_by_origin_are_the_same() {
        for text in ["public", "https://login.microsoftonline.com/"] {
            let authority = Authority::parse(text, false).unwrap();
            assert_eq!(&*authority.cloud, "public");
            assert_eq!(
                authority.issuer("t"),
                "https://login.microsoftonline.com/t/v2.0"
            );
        }
    }

    #[test]
    fn plain_http_only_on_loopback_and_only_when_allowed() {
        assert!(
            Authority::parse("http://127.0.0.1:9443", true)
                .unwrap()
                .plain
        );
        assert!(Authority::parse("http://[::1]:9443", true).is_ok());
        for (text, allowed) in [
            ("http://127.0.0.1:9443", false),
            ("http://localhost:9443", true),
            ("http://10.0.0.1", true),
            ("http://login.microsoftonline.com", true),
            ("ftp://127.0.0.1", true),
            ("https://user@login.example", true),
            ("https://login.example/path", true),
            ("https://login.example/?q", true),
            ("nonsense", true),
            ("", true),
        ] {
            assert!(Authority::parse(text, allowed).is_err(), "{text}");
        }
    }

    #[test]
    fn foreign_urls_are_not_owned() {
        let authority = Authority::parse("https://login.example", false).unwrap();
        assert!(authority.owns("https://login.example/t/keys"));
        assert!(authority.owns("https://login.example:443/t/keys"));
        for url in [
            "http://login.example/t/keys",
            "https://login.example.evil/t/keys",
            "https://login.example:444/keys",
            "https://a@login.example/keys",
            "keys",
        ] {
            assert!(!authority.owns(url), "{url}");
        }
    }
}
