//! Slack: messages as blocks, and what Slack sends when a button is pressed.
//!
//! Sources: Slack's pages on `chat.postMessage`, on rich text blocks, and on verifying requests.
//! A button only opens the console: Slack says who pressed it, which proves nothing about a person
//! of the directory, and deciding needs a reviewer's own fresh sign-in there.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac::verify as verify_tag;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::deliver::{DeliveryError, Reference, retry_of};
use crate::http::HttpClient;
use crate::notice::{Event, Notice, uuid_of};
use crate::signature::{Refused, WINDOW_S, key, unhex};

/// Signatures that are remembered; more than Slack sends within the window.
const SEEN_MAX: usize = 4096;

/// `&`, `<` and `>` are all that is special in Slack's text; a message with them could mention a
/// channel or disguise a link.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn field(name: &str, value: &str) -> Value {
    let text = format!(
        "*{name}*\n{}",
        plain(value).replace(['*', '_', '`', '~'], " ")
    );
    json!({ "type": "mrkdwn", "text": text.chars().take(1900).collect::<String>() })
}

/// The message of a notice.
#[must_use]
pub fn message(notice: &Notice, channel: &str) -> Value {
    let headline: String = notice.headline().chars().take(140).collect();
    let mut blocks = vec![
        json!({ "type": "header", "text": { "type": "plain_text", "text": headline, "emoji": false } }),
        json!({ "type": "section", "fields": [
            field("Reviewers", &notice.groups.join(", ")),
            field("Rule", &notice.rules.join(", ")),
            field("Why", &notice.reason),
            field("Principal", &notice.principal),
        ] }),
    ];
    if !notice.statement.is_empty() {
        // Preformatted text is shown as it is: no markup, no mention, no link.
        blocks.push(json!({ "type": "rich_text", "elements": [
            { "type": "rich_text_preformatted", "elements": [
                { "type": "text", "text": notice.statement }
            ] }
        ] }));
    }
    match notice.event {
        Event::Waiting if !notice.url.is_empty() => {
            blocks.push(json!({ "type": "actions", "elements": [
            { "type": "button", "action_id": "weir_open", "style": "primary", "url": notice.url,
              "text": { "type": "plain_text", "text": "Review in Weir", "emoji": false } }
        ] }))
        }
        Event::Waiting => {}
        Event::Decided => {
            let why = format!("{} {}", notice.approver, notice.justification);
            blocks.push(json!({ "type": "context", "elements": [
                { "type": "plain_text", "text": why.chars().take(1900).collect::<String>(), "emoji": false }
            ] }));
        }
    }
    json!({
        "channel": channel,
        "text": plain(&notice.headline()),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
        "client_msg_id": uuid_of(&notice.key),
    })
}

#[derive(Deserialize)]
struct Said {
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    ts: String,
    #[serde(default)]
    channel: String,
}

/// Posts a message, or changes the one that announced the same request.
pub(crate) async fn send(
    client: &HttpClient,
    token: &str,
    (channel, before): (&str, Option<&Reference>),
    notice: &Notice,
) -> Result<Option<Reference>, DeliveryError> {
    let (method, body) = match before {
        None => ("chat.postMessage", message(notice, channel)),
        Some(before) => {
            let mut body = message(notice, &before.place);
            body["ts"] = json!(before.stamp);
            ("chat.update", body)
        }
    };
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let answer = client
        .post(method, &headers, body.to_string().into())
        .await?;
    retry_of(&answer)?;
    let said: Said = serde_json::from_slice(&answer.body)
        .map_err(|_| DeliveryError::Again("Slack's answer cannot be read".to_owned(), None))?;
    match said.error.as_str() {
        _ if said.ok => Ok(Some(Reference {
            place: said.channel,
            stamp: said.ts,
        })),
        "ratelimited" | "internal_error" | "fatal_error" | "service_unavailable" => {
            Err(DeliveryError::Again(said.error, None))
        }
        _ => Err(DeliveryError::Never(format!(
            "Slack refuses: {}",
            said.error
        ))),
    }
}

/// Checks what claims to come from Slack.
pub struct Inbound {
    key: aws_lc_rs::hmac::Key,
    seen: Mutex<VecDeque<Vec<u8>>>,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbound(…)")
    }
}

impl Inbound {
    /// `secret` is the signing secret of the app.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self {
            key: key(secret),
            seen: Mutex::default(),
        }
    }

    /// `time` and `signature` are `X-Slack-Request-Timestamp` and `X-Slack-Signature`. A message is
    /// taken once.
    ///
    /// # Errors
    /// Not signed by Slack, too old, or seen before.
    pub fn check(
        &self,
        time: &str,
        signature: &str,
        body: &[u8],
        now_s: i64,
    ) -> Result<(), Refused> {
        let sent_s: i64 = time.parse().map_err(|_| Refused::Malformed)?;
        let tag = signature
            .strip_prefix("v0=")
            .and_then(unhex)
            .ok_or(Refused::Malformed)?;
        if (now_s - sent_s).abs() > WINDOW_S {
            return Err(Refused::Time);
        }
        let signed = [b"v0:", time.as_bytes(), b":", body].concat();
        verify_tag(&self.key, &signed, &tag).map_err(|_| Refused::Signature)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&tag) {
            return Err(Refused::Replayed);
        }
        if seen.len() >= SEEN_MAX {
            seen.pop_front();
        }
        seen.push_back(tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::hex;

    fn signed(secret: &str, time: &str, body: &[u8]) -> String {
        let text = [b"v0:", time.as_bytes(), b":", body].concat();
        let tag = aws_lc_rs::hmac::sign(&key(secret), &text);
        format!("v0={}", hex(tag.as_ref()))
    }

    #[test]
    fn the_signature_is_that_of_slacks_own_example() {
        // Slack's page "Verifying requests from Slack".
        let inbound = Inbound::new("8f742231b10e8888abcd99yyyzzz85a5");
        let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        assert_eq!(
            inbound.check("1531420618", signature, body, 1_531_420_618),
            Ok(())
        );
    }

    #[test]
    fn a_forged_slack_signature_is_refused() {
        let inbound = Inbound::new("secret");
        let body = b"payload=%7B%7D";
        let forged = signed("guess", "1000", body);
        assert_eq!(
            inbound.check("1000", &forged, body, 1000),
            Err(Refused::Signature)
        );
        let good = signed("secret", "1000", body);
        assert_eq!(
            inbound.check("1000", &good, b"payload=x", 1000),
            Err(Refused::Signature)
        );
        assert_eq!(
            inbound.check("1001", &good, body, 1000),
            Err(Refused::Signature)
        );
        for odd in ["", "v0=", "v1=00", "v0=zz", &good[3..]] {
            assert_eq!(
                inbound.check("1000", odd, body, 1000),
                Err(Refused::Malformed)
            );
        }
        assert_eq!(
            inbound.check("soon", &good, body, 1000),
            Err(Refused::Malformed)
        );
    }

    #[test]
    fn a_replayed_slack_message_is_refused() {
        let inbound = Inbound::new("secret");
        let good = signed("secret", "1000", b"payload=%7B%7D");
        assert_eq!(
            inbound.check("1000", &good, b"payload=%7B%7D", 1001),
            Ok(())
        );
        let again = inbound.check("1000", &good, b"payload=%7B%7D", 1002);
        assert_eq!(again, Err(Refused::Replayed));
        let late = inbound.check("1000", &good, b"payload=%7B%7D", 1301);
        assert_eq!(late, Err(Refused::Time));
    }
}
