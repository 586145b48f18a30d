//! Notifiers on this node: their secrets, and what they hear of.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use prometheus::Registry;
use tokio::task::AbortHandle;
use weir_model::ident::SessionId;
use weir_notify::slack::Inbound;
use weir_notify::{About, Address, Channel, Notifier, NotifyMetrics};
use weir_relay::Node;
use weir_state::State;

use crate::config::{self, Config, Way};
use crate::daemon::prepare;

/// What was told already, below the node's own folder.
const FILE: &str = "notify.sqlite";

/// Read before privileges are dropped.
pub(crate) struct NotifierSecrets {
    notifiers: Vec<Notifier>,
    /// Checks what claims to come from Slack.
    pub(crate) slack: Vec<Inbound>,
}

impl NotifierSecrets {
    pub(crate) fn read(config: &Config) -> Result<Self> {
        let mut all = Self {
            notifiers: Vec::new(),
            slack: Vec::new(),
        };
        for notifier in &config.approvals.notifiers {
            let one = all.one(notifier);
            let one = one.with_context(|| format!("notifier {}", notifier.name))?;
            all.notifiers.push(one);
        }
        Ok(all)
    }

    fn one(&mut self, notifier: &config::Notifier) -> Result<Notifier> {
        let ca = match &notifier.ca_file {
            Some(file) => {
                let pem = std::fs::read_to_string(file);
                let pem = pem.with_context(|| format!("reading {}", file.display()))?;
                Some(Arc::from(pem))
            }
            None => None,
        };
        let to = |url: &str| Address {
            url: url.to_owned(),
            ca: ca.clone(),
        };
        let channel = match &notifier.way {
            Way::Webhook { url, secret_file } => Channel::Webhook {
                to: to(url),
                secret: prepare::read_secret(secret_file)?,
            },
            Way::Slack {
                api,
                token_file,
                signing_secret_file,
                channel,
            } => {
                if let Some(file) = signing_secret_file {
                    self.slack.push(Inbound::new(&prepare::read_secret(file)?));
                }
                Channel::Slack {
                    api: to(api),
                    token: prepare::read_secret(token_file)?,
                    channel: channel.clone(),
                }
            }
            Way::Teams { url_file } => Channel::Teams {
                to: to(&prepare::read_secret(url_file)?),
            },
            Way::Mail {
                server,
                port,
                tls,
                login,
                from,
                to,
            } => Channel::Mail {
                server: server.clone(),
                port: *port,
                tls: *tls,
                login: match login {
                    Some((user, file)) => Some((user.clone(), prepare::read_secret(file)?)),
                    None => None,
                },
                from: from.clone(),
                to: to.clone(),
            },
        };
        Ok(Notifier {
            name: notifier.name.clone(),
            groups: notifier.groups.clone(),
            statement: notifier.statement,
            channel,
        })
    }
}

/// What notifiers need of a running node.
pub(crate) struct Running<'a> {
    pub(crate) node: &'a Arc<Node>,
    pub(crate) state: &'a State,
    pub(crate) registry: &'a Registry,
    pub(crate) folder: &'a Path,
}

/// Starts telling; nothing without notifiers.
pub(crate) fn start(
    config: &Config,
    secrets: NotifierSecrets,
    running: &Running<'_>,
) -> Result<Vec<AbortHandle>> {
    if secrets.notifiers.is_empty() {
        return Ok(Vec::new());
    }
    let node = Arc::clone(running.node);
    let about = About {
        node: config.node.name.clone(),
        console: config
            .console
            .as_ref()
            .map(|console| console.url.clone())
            .unwrap_or_default(),
        ours: Arc::new(move |session: SessionId| {
            node.flows().iter().any(|flow| flow.session == session)
        }),
        now: weir_clock::now,
    };
    let metrics = NotifyMetrics::register(running.registry).context("metrics")?;
    let file = running.folder.join(FILE);
    let state = running.state.clone();
    let telling = weir_notify::start(secrets.notifiers, &file, state, about, metrics);
    let telling = telling
        .map_err(anyhow::Error::msg)
        .context("approvals.notifiers")?;
    Ok(vec![tokio::spawn(telling).abort_handle()])
}
