//! Who is told, and how; checked by the caller.

use std::sync::Arc;

use zeroize::Zeroizing;

/// One place that is told.
#[derive(Clone, Debug)]
pub struct Notifier {
    /// As configured; the label of its metrics.
    pub name: String,
    /// Reviewer groups whose requests it hears of; all when empty.
    pub groups: Vec<String>,
    /// The statement is part of the message. Without, it is read in the console.
    pub statement: bool,
    pub channel: Channel,
}

/// An HTTP service.
#[derive(Clone, Debug)]
pub struct Address {
    /// `https`, or `http` to a loopback address (tests).
    pub url: String,
    /// PEM of the authority that proves it; the machine's own without.
    pub ca: Option<Arc<str>>,
}

#[derive(Clone)]
pub enum Channel {
    /// JSON, signed as [`crate::signature`] says.
    Webhook {
        to: Address,
        secret: Zeroizing<String>,
    },
    /// A bot of a workspace: `chat.postMessage`, `chat.update`.
    Slack {
        /// `https://slack.com/api` but for tests.
        api: Address,
        token: Zeroizing<String>,
        channel: String,
    },
    /// An incoming webhook of a channel or a workflow, whose URL is its secret.
    Teams { to: Address },
    Mail {
        server: String,
        port: u16,
        tls: MailTls,
        /// User and password.
        login: Option<(String, Zeroizing<String>)>,
        from: String,
        to: Vec<String>,
    },
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, or no mail.
    Starttls,
    /// Loopback only.
    None,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Webhook { .. } => "Webhook(…)",
            Self::Slack { .. } => "Slack(…)",
            Self::Teams { .. } => "Teams(…)",
            Self::Mail { .. } => "Mail(…)",
        })
    }
}
