//! The upgrade: what the agent offers, what of it Weir knows, and what the server chose.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::path::Unclear;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Protocols that one client offers.
const OFFERED_MAX: usize = 16;

/// What is spoken behind the upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A command over WebSocket whose input can end.
    RemoteV5,
    /// A command over WebSocket.
    RemoteV4,
    /// A command over SPDY.
    RemoteSpdy,
    /// Ports over SPDY within WebSocket messages.
    ForwardTunnel,
    /// Ports over WebSocket, named in the request.
    ForwardPlain,
    /// Ports over SPDY.
    ForwardSpdy,
}

const ALL: [Protocol; 6] = [
    Protocol::RemoteV5,
    Protocol::RemoteV4,
    Protocol::RemoteSpdy,
    Protocol::ForwardTunnel,
    Protocol::ForwardPlain,
    Protocol::ForwardSpdy,
];

impl Protocol {
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        !matches!(self, Self::RemoteSpdy | Self::ForwardSpdy)
    }

    #[must_use]
    pub const fn forwards(self) -> bool {
        matches!(
            self,
            Self::ForwardTunnel | Self::ForwardPlain | Self::ForwardSpdy
        )
    }

    const fn name(self) -> &'static str {
        match self {
            Self::RemoteV5 => "v5.channel.k8s.io",
            Self::RemoteV4 | Self::RemoteSpdy | Self::ForwardPlain => "v4.channel.k8s.io",
            Self::ForwardTunnel => "SPDY/3.1+portforward.k8s.io",
            Self::ForwardSpdy => "portforward.k8s.io",
        }
    }
}

/// What an agent offers, of what Weir knows; never nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// In the agent's order.
    protocols: Vec<Protocol>,
    /// `Sec-WebSocket-Accept` for the agent's key.
    accept: Option<String>,
}

impl Offer {
    /// Reads the agent's head.
    ///
    /// # Errors
    /// [`Unclear`]: no upgrade, or none that is known.
    pub fn read(headers: &HeaderMap, forward: bool) -> Result<Self, Unclear> {
        let connection = tokens(headers, &header::CONNECTION)?;
        let upgrade = tokens(headers, &header::UPGRADE)?;
        let [upgrade] = upgrade.as_slice() else {
            return Err(Unclear("exec, attach and port-forward need one upgrade"));
        };
        if !connection
            .iter()
            .any(|token| token.eq_ignore_ascii_case("upgrade"))
        {
            return Err(Unclear("the connection does not name the upgrade"));
        }
        let websocket = upgrade.eq_ignore_ascii_case("websocket");
        if !websocket && !upgrade.eq_ignore_ascii_case("SPDY/3.1") {
            return Err(Unclear("only WebSocket and SPDY/3.1 are known upgrades"));
        }
        let accept = if websocket {
            Some(websocket_key(headers)?)
        } else {
            None
        };
        let offered = if websocket {
            tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)?
        } else {
            tokens(headers, &STREAM_PROTOCOL)?
        };
        let protocols: Vec<Protocol> = offered
            .iter()
            .filter_map(|name| find(name, websocket, forward))
            .collect();
        if protocols.is_empty() {
            return Err(Unclear(
                "none of the offered stream protocols is known (base64.channel.k8s.io and those before v4 are not)",
            ));
        }
        Ok(Self { protocols, accept })
    }

    #[must_use]
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Keeps those that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(Protocol) -> bool) {
        self.protocols.retain(|protocol| keep(*protocol));
    }

    /// The upgrade as the server is asked for it, with a key of ours.
    ///
    /// # Errors
    /// Never for a key in base64.
    pub fn towards_server(&self, headers: &mut HeaderMap, key: &str) -> Result<(), Unclear> {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let name = if self.accept.is_some() {
            let key = HeaderValue::from_str(key).map_err(|_| Unclear("the key is no key"))?;
            headers.insert(header::UPGRADE, WEBSOCKET);
            headers.insert(
                header::SEC_WEBSOCKET_VERSION,
                HeaderValue::from_static("13"),
            );
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
            header::SEC_WEBSOCKET_PROTOCOL
        } else {
            headers.insert(header::UPGRADE, SPDY);
            STREAM_PROTOCOL
        };
        for protocol in &self.protocols {
            headers.append(name.clone(), HeaderValue::from_static(protocol.name()));
        }
        Ok(())
    }

    /// What the server chose, from its head of status 101; `key` is what it was sent.
    ///
    /// # Errors
    /// [`Unclear`]: it did not choose what was offered.
    pub fn chosen(&self, headers: &HeaderMap, key: &str) -> Result<Protocol, Unclear> {
        let websocket = self.accept.is_some();
        let wanted = if websocket { WEBSOCKET } else { SPDY };
        let upgrade = tokens(headers, &header::UPGRADE)?;
        if !matches!(upgrade.as_slice(), [one] if one.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
        {
            return Err(Unclear("the server upgrades to something else"));
        }
        let names = if websocket {
            let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
            if accept.is_none_or(|value| value.as_bytes() != websocket_accept(key).as_bytes()) {
                return Err(Unclear("the server's WebSocket answer has a wrong key"));
            }
            if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
                return Err(Unclear("the server wants a WebSocket extension"));
            }
            tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)?
        } else {
            tokens(headers, &STREAM_PROTOCOL)?
        };
        let chosen = match names.as_slice() {
            [name] => self.protocols.iter().find(|known| known.name() == *name),
            _ => None,
        };
        chosen.copied().ok_or(Unclear(
            "the server chose a stream protocol that was not offered",
        ))
    }

    /// Header fields of the answer to the agent, of status 101.
    #[must_use]
    pub fn answer(&self, chosen: Protocol) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let name = HeaderValue::from_static(chosen.name());
        let accept = self.accept.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(accept)) = accept {
            headers.insert(header::UPGRADE, WEBSOCKET);
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, name);
        } else {
            headers.insert(header::UPGRADE, SPDY);
            headers.insert(STREAM_PROTOCOL, name);
        }
        headers
    }
}

fn find(name: &str, websocket: bool, forward: bool) -> Option<Protocol> {
    ALL.into_iter().find(|known| {
        known.name() == name && known.is_websocket() == websocket && known.forwards() == forward
    })
}

/// A list of tokens, over all fields of the name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Vec<&'a str>, Unclear> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let text = value
            .to_str()
            .map_err(|_| Unclear("a header field of the upgrade is no text"))?;
        all.extend(text.split(',').map(str::trim).filter(|t| !t.is_empty()));
        if all.len() > OFFERED_MAX {
            return Err(Unclear("the upgrade offers too much"));
        }
    }
    Ok(all)
}

/// Checks the agent's side of the handshake (RFC 6455, 4.2.1).
fn websocket_key(headers: &HeaderMap) -> Result<String, Unclear> {
    let version = tokens(headers, &header::SEC_WEBSOCKET_VERSION)?;
    if version != ["13"] {
        return Err(Unclear("the version of WebSocket has to be 13"));
    }
    match tokens(headers, &header::SEC_WEBSOCKET_KEY)?.as_slice() {
        [key] if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) => {
            Ok(websocket_accept(key))
        }
        _ => Err(Unclear("the WebSocket key is not 16 bytes in base64")),
    }
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455, 4.2.2). SHA-1 is what the RFC says; it protects
/// nothing here.
#[must_use]
pub fn websocket_accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    STANDARD.encode(hash.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const WS: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        KEY,
    ];

    fn websocket(protocols: &str, forward: bool) -> Result<Offer, Unclear> {
        let mut headers = head(&WS);
        headers.insert(
            "sec-websocket-protocol",
            HeaderValue::from_str(protocols).unwrap(),
        );
        Offer::read(&headers, forward)
    }

    #[test]
    fn accept_of_the_rfc() {
        assert_eq!(websocket_accept(KEY.1), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_not_known_is_not_offered_on() {
        let offer = websocket(
            "v5.channel.k8s.io, base64.channel.k8s.io, channel.k8s.io, v4.channel.k8s.io",
            false,
        )
        .unwrap();
        assert_eq!(offer.protocols(), [Protocol::RemoteV5, Protocol::RemoteV4]);
        let offer = websocket("SPDY/3.1+portforward.k8s.io", true).unwrap();
        assert_eq!(offer.protocols(), [Protocol::ForwardTunnel]);
        for (protocols, forward) in [
            ("base64.channel.k8s.io", false),
            ("v5.channel.k8s.io", true),
            ("SPDY/3.1+portforward.k8s.io", false),
            ("", false),
        ] {
            assert!(websocket(protocols, forward).is_err(), "{protocols}");
        }
    }

    #[test]
    fn broken_upgrades_are_refused() {
        for change in [
            ("upgrade", "h2c"),
            ("upgrade", "websocket, SPDY/3.1"),
            ("connection", "close"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "short"),
        ] {
            let mut headers = head(&WS);
            headers.insert(
                "sec-websocket-protocol",
                HeaderValue::from_static("v5.channel.k8s.io"),
            );
            Offer::read(&headers, false).unwrap();
            headers.insert(change.0, HeaderValue::from_static(change.1));
            assert!(Offer::read(&headers, false).is_err(), "{change:?}");
        }
        assert!(Offer::read(&HeaderMap::new(), false).is_err());
    }

    #[test]
    fn the_server_chooses_among_what_was_offered() {
        let offer = websocket("v5.channel.k8s.io,v4.channel.k8s.io", false).unwrap();
        let mut sent = HeaderMap::new();
        offer.towards_server(&mut sent, KEY.1).unwrap();
        assert_eq!(sent.get_all("sec-websocket-protocol").iter().count(), 2);
        let answer = offer.answer(Protocol::RemoteV4);
        assert_eq!(offer.chosen(&answer, KEY.1), Ok(Protocol::RemoteV4));
        assert!(offer.chosen(&answer, "another key").is_err());
        for (name, value) in [
            ("sec-websocket-protocol", "v3.channel.k8s.io"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("upgrade", "SPDY/3.1"),
        ] {
            let mut answer = answer.clone();
            answer.insert(name, HeaderValue::from_static(value));
            assert!(offer.chosen(&answer, KEY.1).is_err(), "{name}");
        }
        let spdy = head(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ]);
        let offer = Offer::read(&spdy, false).unwrap();
        let answer = offer.answer(Protocol::RemoteSpdy);
        assert_eq!(offer.chosen(&answer, ""), Ok(Protocol::RemoteSpdy));
    }
}
