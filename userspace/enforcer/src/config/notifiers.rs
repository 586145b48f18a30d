//! `approvals.notifiers`: who is told that a request waits.

use std::collections::BTreeSet;
use std::path::PathBuf;

use weir_notify::MailTls;

use super::checked::Checker;
use super::read::{Problem, Section};

/// Notifiers of one node.
const NOTIFIERS_MAX: usize = 32;
const KINDS: &str = "must be webhook, slack, teams or mail";
const SLACK: &str = "https://slack.com/api";

/// As written.
#[derive(Default)]
pub(super) struct RawNotifier {
    path: String,
    name: String,
    kind: String,
    groups: Vec<String>,
    statement: Option<bool>,
    url: Option<String>,
    url_file: Option<String>,
    ca_file: Option<String>,
    secret_file: Option<String>,
    token_file: Option<String>,
    signing_secret_file: Option<String>,
    channel: Option<String>,
    server: Option<String>,
    port: Option<u64>,
    tls: Option<String>,
    user: Option<String>,
    password_file: Option<String>,
    from: Option<String>,
    to: Vec<String>,
}

impl RawNotifier {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            path: section.path_of("").trim_end_matches('.').to_owned(),
            name: section.text("name", problems),
            kind: section.text("kind", problems),
            groups: section.texts("groups", problems),
            statement: section.opt_flag("statement", problems),
            url: section.opt_text("url", problems),
            url_file: section.opt_text("url_file", problems),
            ca_file: section.opt_text("ca_file", problems),
            secret_file: section.opt_text("secret_file", problems),
            token_file: section.opt_text("token_file", problems),
            signing_secret_file: section.opt_text("signing_secret_file", problems),
            channel: section.opt_text("channel", problems),
            server: section.opt_text("server", problems),
            port: section.opt_number("port", problems),
            tls: section.opt_text("tls", problems),
            user: section.opt_text("user", problems),
            password_file: section.opt_text("password_file", problems),
            from: section.opt_text("from", problems),
            to: section.texts("to", problems),
        };
        section.finish(problems);
        raw
    }
}

/// One notifier; its secrets are in files that are read at start.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    /// Whether messages carry the statement.
    pub(crate) statement: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) way: Way,
}

#[derive(Clone, Debug)]
pub(crate) enum Way {
    Webhook {
        url: String,
        secret_file: PathBuf,
    },
    Slack {
        api: String,
        token_file: PathBuf,
        signing_secret_file: Option<PathBuf>,
        channel: String,
    },
    Teams {
        url_file: PathBuf,
    },
    Mail {
        server: String,
        port: u16,
        tls: MailTls,
        login: Option<(String, PathBuf)>,
        from: String,
        to: Vec<String>,
    },
}

pub(super) fn check_notifiers(
    raw: &[RawNotifier],
    reviewers: &BTreeSet<String>,
    checker: &mut Checker<'_>,
) -> Vec<Notifier> {
    if raw.len() > NOTIFIERS_MAX {
        let text = format!("has more than {NOTIFIERS_MAX} notifiers");
        checker.say("approvals.notifiers", text);
    }
    let mut names = BTreeSet::new();
    let mut notifiers = Vec::new();
    for one in raw {
        let at = |field: &str| format!("{}.{field}", one.path);
        checker.name(&at("name"), &one.name);
        if !names.insert(&one.name) {
            checker.say(at("name"), "is taken by another notifier");
        }
        for group in one
            .groups
            .iter()
            .filter(|group| !reviewers.contains(*group))
        {
            let text = format!("{group} is none of approvals.reviewer_groups");
            checker.say(at("groups"), text);
        }
        if let Some(way) = check_way(one, checker) {
            notifiers.push(Notifier {
                name: one.name.clone(),
                groups: one.groups.clone(),
                statement: one.statement.unwrap_or(true),
                ca_file: one.ca_file.as_deref().map(|file| checker.file(file)),
                way,
            });
        }
    }
    notifiers
}

fn check_way(raw: &RawNotifier, checker: &mut Checker<'_>) -> Option<Way> {
    let mut needed = |field: &str, given: &Option<String>| {
        if given.is_none() {
            checker.say(format!("{}.{field}", raw.path), "is required");
        }
        given.clone()
    };
    match raw.kind.as_str() {
        "webhook" => {
            let (url, secret) = (
                needed("url", &raw.url),
                needed("secret_file", &raw.secret_file),
            );
            let url = url?;
            check_url(raw, &url, checker);
            Some(Way::Webhook {
                url,
                secret_file: checker.file(&secret?),
            })
        }
        "slack" => {
            let (token, channel) = (
                needed("token_file", &raw.token_file),
                needed("channel", &raw.channel),
            );
            let api = raw.url.clone().unwrap_or_else(|| SLACK.to_owned());
            check_url(raw, &api, checker);
            let signing = raw.signing_secret_file.as_deref();
            Some(Way::Slack {
                api,
                token_file: checker.file(&token?),
                signing_secret_file: signing.map(|file| checker.file(file)),
                channel: channel?,
            })
        }
        "teams" => {
            let url_file = needed("url_file", &raw.url_file)?;
            Some(Way::Teams {
                url_file: checker.file(&url_file),
            })
        }
        "mail" => check_mail(raw, checker),
        _ => {
            checker.say(format!("{}.kind", raw.path), KINDS);
            None
        }
    }
}

fn check_url(raw: &RawNotifier, text: &str, checker: &mut Checker<'_>) {
    let url = url::Url::parse(text).ok();
    let good = url.is_some_and(|url| {
        let local = url.host().is_some_and(|host| match host {
            url::Host::Ipv4(addr) => addr.is_loopback(),
            url::Host::Ipv6(addr) => addr.is_loopback(),
            url::Host::Domain(_) => false,
        });
        url.scheme() == "https" || (url.scheme() == "http" && local)
    });
    if !good {
        let path = format!("{}.url", raw.path);
        checker.say(path, "must be https, or http to a loopback address (tests)");
    }
}

fn check_mail(raw: &RawNotifier, checker: &mut Checker<'_>) -> Option<Way> {
    let at = |field: &str| format!("{}.{field}", raw.path);
    for (field, missing) in [
        ("server", raw.server.is_none()),
        ("from", raw.from.is_none()),
        ("to", raw.to.is_empty()),
    ] {
        if missing {
            checker.say(at(field), "is required");
        }
    }
    if raw.user.is_some() != raw.password_file.is_some() {
        checker.say(
            at("user"),
            "belongs to a password_file, and the other way round",
        );
    }
    let loopback = raw.server.as_deref().is_some_and(|server| {
        let addr: Result<std::net::IpAddr, _> = server.parse();
        addr.is_ok_and(|addr| addr.is_loopback())
    });
    let (tls, port) = match raw.tls.as_deref() {
        None | Some("starttls") => (MailTls::Starttls, 587),
        Some("implicit") => (MailTls::Implicit, 465),
        Some("none") if loopback && raw.user.is_none() => (MailTls::None, 25),
        Some("none") => {
            checker.say(
                at("tls"),
                "none is for a loopback address without a login (tests)",
            );
            (MailTls::Starttls, 587)
        }
        Some(_) => {
            checker.say(at("tls"), "must be starttls or implicit");
            (MailTls::Starttls, 587)
        }
    };
    let port = checker.number(&at("port"), raw.port, (1, 65_535), port);
    let password = raw.password_file.as_deref().map(|file| checker.file(file));
    Some(Way::Mail {
        server: raw.server.clone()?,
        port: u16::try_from(port).unwrap_or(587),
        tls,
        login: raw.user.clone().zip(password),
        from: raw.from.clone()?,
        to: raw.to.clone(),
    })
}
