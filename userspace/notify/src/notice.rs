//! What is told.

use serde::Serialize;
use weir_state::{ApprovalRow, ApprovalState};

/// Characters of a statement in a message; the console has all of it.
const STATEMENT_CHARS_MAX: usize = 2000;

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Event {
    #[serde(rename = "approval.waiting")]
    Waiting,
    #[serde(rename = "approval.decided")]
    Decided,
}

impl Event {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Decided => "decided",
        }
    }
}

/// One event about one request, as every channel tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    pub version: u8,
    pub event: Event,
    /// The same for every attempt; another one for every event.
    pub key: String,
    pub node: String,
    pub id: String,
    pub state: String,
    pub workload: String,
    pub principal: String,
    pub on_behalf_of: String,
    pub target: String,
    pub database: String,
    /// Empty where the notifier leaves it out; cut at 2,000 characters.
    pub statement: String,
    pub accesses: Vec<String>,
    pub rules: Vec<String>,
    pub groups: Vec<String>,
    pub reason: String,
    pub process: String,
    /// Who decided; empty while nobody did.
    pub approver: String,
    pub justification: String,
    /// Unix seconds.
    pub created_s: i64,
    /// Unix seconds.
    pub expires_s: i64,
    /// Page of the request in the console; empty without one.
    pub url: String,
}

impl Notice {
    /// `console` is its origin, or empty.
    #[must_use]
    pub fn new(row: &ApprovalRow, event: Event, node: &str, console: &str) -> Self {
        let id = row.id.to_string();
        Self {
            version: 1,
            event,
            key: key(&id, event),
            node: node.to_owned(),
            state: row.state.label().to_owned(),
            workload: row.new.workload.clone(),
            principal: row.new.principal.clone(),
            on_behalf_of: row.new.on_behalf_of.clone(),
            target: row.new.target.clone(),
            database: row.new.database.clone(),
            statement: cut(&row.new.statement),
            accesses: row
                .new
                .accesses
                .iter()
                .take(20)
                .map(|text| cut(text))
                .collect(),
            rules: row.new.rules.clone(),
            groups: row.new.groups.clone(),
            reason: row.new.reason.clone(),
            process: cut(&row.new.process),
            approver: row.approver.clone(),
            justification: row.justification.clone(),
            created_s: row.new.created_us / 1_000_000,
            expires_s: row.new.expires_us / 1_000_000,
            url: if console.is_empty() {
                String::new()
            } else {
                format!("{console}/approvals/{id}")
            },
            id,
        }
    }

    /// `operator → demo/shop`
    #[must_use]
    pub fn place(&self) -> String {
        match self.database.as_str() {
            "" => format!("{} → {}", self.workload, self.target),
            database => format!("{} → {}/{database}", self.workload, self.target),
        }
    }

    /// One line.
    #[must_use]
    pub fn headline(&self) -> String {
        match self.event {
            Event::Waiting => format!("Approval needed: {}", self.place()),
            Event::Decided if self.approver.is_empty() => {
                format!("{}: {}", capital(&self.state), self.place())
            }
            Event::Decided => {
                format!(
                    "{} by {}: {}",
                    capital(&self.state),
                    self.approver,
                    self.place()
                )
            }
        }
    }

    pub(crate) fn without_statement(mut self) -> Self {
        self.statement.clear();
        self.accesses.clear();
        self.process.clear();
        self
    }
}

/// Whether a settled request is worth a message of its own.
pub(crate) const fn settled(state: ApprovalState) -> bool {
    match state {
        ApprovalState::Pending => false,
        ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Expired
        | ApprovalState::Used
        | ApprovalState::Abandoned => true,
    }
}

pub(crate) fn key(id: &str, event: Event) -> String {
    format!("{id}.{}", event.label())
}

/// The key as a UUID, for services that want one.
pub(crate) fn uuid_of(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

fn cut(text: &str) -> String {
    let mut out: String = text.chars().take(STATEMENT_CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn notice(key: &str) -> Notice {
        Notice {
            version: 1,
            event: Event::Waiting,
            key: key.to_owned(),
            node: "n".to_owned(),
            id: "i".to_owned(),
            state: "pending".to_owned(),
            workload: "operator".to_owned(),
            principal: "p".to_owned(),
            on_behalf_of: String::new(),
            target: "demo".to_owned(),
            database: "shop".to_owned(),
            statement: "delete from <!channel> & co".to_owned(),
            accesses: Vec::new(),
            rules: vec!["unbounded".to_owned()],
            groups: vec!["dba".to_owned()],
            reason: "<!here> *all*".to_owned(),
            process: "psql".to_owned(),
            approver: String::new(),
            justification: String::new(),
            created_s: 1,
            expires_s: 2,
            url: "https://weir.example/approvals/i".to_owned(),
        }
    }

    #[test]
    fn headlines_say_what_happened() {
        let mut one = notice("k");
        assert_eq!(one.headline(), "Approval needed: operator → demo/shop");
        one.event = Event::Decided;
        "expired".clone_into(&mut one.state);
        assert_eq!(one.headline(), "Expired: operator → demo/shop");
        "alice".clone_into(&mut one.approver);
        "denied".clone_into(&mut one.state);
        assert_eq!(one.headline(), "Denied by alice: operator → demo/shop");
    }

    #[test]
    fn no_message_mentions_a_channel_or_carries_markup() {
        let slack = crate::slack::message(&notice("k"), "C1");
        let fields = slack["blocks"][1]["fields"][2]["text"].as_str().unwrap();
        assert_eq!(fields, "*Why*\n&lt;!here&gt;  all ");
        let text = slack["blocks"][2]["elements"][0]["elements"][0].clone();
        assert_eq!(
            text["text"], "delete from <!channel> & co",
            "as it is, preformatted"
        );
        let button = &slack["blocks"][3]["elements"][0];
        assert_eq!(button["url"], "https://weir.example/approvals/i");
        let teams = crate::teams::message(&notice("k"));
        let card = &teams["attachments"][0]["content"];
        assert_eq!(card["body"][1]["facts"][2]["value"], "<!here   all ");
        assert_eq!(card["actions"][0]["type"], "Action.OpenUrl");
    }

    #[test]
    fn keys_are_stable_and_without_the_statement_nothing_of_it_is_told() {
        assert_eq!(uuid_of("a"), uuid_of("a"));
        assert_ne!(uuid_of("a"), uuid_of("b"));
        let told = serde_json::to_string(&notice("k").without_statement()).unwrap();
        assert!(!told.contains("delete") && !told.contains("psql"), "{told}");
    }
}
