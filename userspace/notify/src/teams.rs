//! Microsoft Teams: an adaptive card, posted to a channel's or workflow's URL.
//!
//! Source: the vendor's pages on adaptive cards (1.4) and on incoming webhooks. Its only action
//! opens the console.

use serde_json::{Value, json};

use crate::deliver::{DeliveryError, retry_of};
use crate::http::HttpClient;
use crate::notice::{Event, Notice};

/// The message of a notice.
pub(crate) fn message(notice: &Notice) -> Value {
    let mut body = vec![
        json!({ "type": "TextBlock", "size": "Medium", "weight": "Bolder", "wrap": true, "text": plain(&notice.headline()) }),
        json!({ "type": "FactSet", "facts": [
            { "title": "Reviewers", "value": plain(&notice.groups.join(", ")) },
            { "title": "Rule", "value": plain(&notice.rules.join(", ")) },
            { "title": "Why", "value": plain(&notice.reason) },
            { "title": "Principal", "value": plain(&notice.principal) },
        ] }),
    ];
    if !notice.statement.is_empty() {
        // A run of rich text is not read as Markdown.
        body.push(json!({ "type": "RichTextBlock", "inlines": [
            { "type": "TextRun", "fontType": "Monospace", "text": notice.statement }
        ] }));
    }
    if notice.event == Event::Decided && !notice.justification.is_empty() {
        body.push(json!({ "type": "RichTextBlock", "inlines": [
            { "type": "TextRun", "text": notice.justification }
        ] }));
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    });
    if notice.event == Event::Waiting && !notice.url.is_empty() {
        card["actions"] = json!([
            { "type": "Action.OpenUrl", "title": "Review in Weir", "url": notice.url }
        ]);
    }
    json!({
        "type": "message",
        "attachments": [
            { "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }
        ],
    })
}

/// Text blocks are read as Markdown: what makes links and emphasis is taken out.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if "[]()*_`#>".contains(c) || c.is_control() {
                ' '
            } else {
                c
            }
        })
        .take(1000)
        .collect()
}

pub(crate) async fn send(client: &HttpClient, notice: &Notice) -> Result<(), DeliveryError> {
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", notice.key.as_str()),
    ];
    let body = message(notice).to_string();
    let answer = client.post("", &headers, body.into()).await?;
    retry_of(&answer)
}
