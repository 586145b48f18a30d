//! One notice to one notifier.

use std::time::Duration;

use crate::config::{Channel, Notifier};
use crate::http::{Answer, HttpClient};
use crate::mail::{Mailer, Server};
use crate::notice::Notice;
use crate::{slack, teams, webhook};

/// A service does not put us off for longer.
const PUT_OFF_MAX_S: u64 = 300;

/// Why a notice did not arrive. Texts are for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Worth another try, not before the time given.
    #[error("{0}")]
    Again(String, Option<Duration>),
    /// It would be refused again.
    #[error("{0}")]
    Never(String),
}

/// Where a message was put, so that it can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) place: String,
    pub(crate) stamp: String,
}

/// What a status means: 2xx is done, 408, 425, 429 and 5xx pass.
pub(crate) fn retry_of(answer: &Answer) -> Result<(), DeliveryError> {
    let put_off = answer
        .retry_after_s
        .map(|seconds| Duration::from_secs(seconds.min(PUT_OFF_MAX_S)));
    let text = format!("it answers {}", answer.status);
    match answer.status {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(DeliveryError::Again(text, put_off)),
        _ => Err(DeliveryError::Never(text)),
    }
}

pub(crate) enum Line {
    Webhook(HttpClient, zeroize::Zeroizing<String>),
    Slack(HttpClient, zeroize::Zeroizing<String>, String),
    Teams(HttpClient),
    Mail(Mailer),
}

impl Line {
    pub(crate) fn open(notifier: &Notifier) -> Result<Self, String> {
        Ok(match &notifier.channel {
            Channel::Webhook { to, secret } => Self::Webhook(HttpClient::new(to)?, secret.clone()),
            Channel::Slack {
                api,
                token,
                channel,
            } => Self::Slack(HttpClient::new(api)?, token.clone(), channel.clone()),
            Channel::Teams { to } => Self::Teams(HttpClient::new(to)?),
            Channel::Mail {
                server,
                port,
                tls,
                login,
                from,
                to,
            } => {
                let server = Server {
                    name: server,
                    port: *port,
                    tls: *tls,
                    login: login
                        .as_ref()
                        .map(|(user, password)| (user.as_str(), password.as_str())),
                };
                Self::Mail(Mailer::new(&server, from, to)?)
            }
        })
    }

    pub(crate) async fn send(
        &self,
        notice: &Notice,
        before: Option<&Reference>,
        now_s: i64,
    ) -> Result<Option<Reference>, DeliveryError> {
        match self {
            Self::Webhook(client, secret) => {
                webhook::send(client, secret, notice, now_s).await?;
                Ok(None)
            }
            Self::Slack(client, token, channel) => {
                slack::send(client, token, (channel, before), notice).await
            }
            Self::Teams(client) => {
                teams::send(client, notice).await?;
                Ok(None)
            }
            Self::Mail(mailer) => {
                mailer.send(notice).await?;
                Ok(None)
            }
        }
    }
}
