//! `console`: the web page of reviewers, auditors and administrators.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use weir_console::{Lifetimes, Roles, Who};

use super::checked::{Approvals, Checker, is_guid};
use super::read::{Problem, Section};

/// A session of a browser lasts a day at most.
const ABSOLUTE_S_MAX: u64 = 24 * 3600;
const ROLE_BYTES_MAX: usize = 120;

/// As written.
pub(super) struct RawConsole {
    listen: String,
    url: Option<String>,
    tls: Option<(String, String)>,
    client_id: String,
    client_secret_file: Option<String>,
    auditors: Vec<(String, String)>,
    administrators: Vec<(String, String)>,
    reviewer_roles: Vec<(String, String)>,
    idle_s: Option<u64>,
    absolute_s: Option<u64>,
    fresh_s: Option<u64>,
}

impl RawConsole {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let tls = section.opt_section("tls", problems).map(|mut tls| {
            let certificate = tls.text("certificate_file", problems);
            let key = tls.text("key_file", problems);
            tls.finish(problems);
            (certificate, key)
        });
        let mut client = section.section("client", problems);
        let client_id = client.text("id", problems);
        let client_secret_file = client.opt_text("secret_file", problems);
        client.finish(problems);
        let raw = Self {
            listen: section.text("listen", problems),
            url: section.opt_text("url", problems),
            tls,
            client_id,
            client_secret_file,
            auditors: section.text_map("auditors", problems),
            administrators: section.text_map("administrators", problems),
            reviewer_roles: section.text_map("reviewer_roles", problems),
            idle_s: section.opt_number("idle_s", problems),
            absolute_s: section.opt_number("absolute_s", problems),
            fresh_s: section.opt_number("fresh_s", problems),
        };
        section.finish(problems);
        raw
    }
}

/// Where the console is, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    pub(crate) listen: SocketAddr,
    /// Origin that browsers see, without a final `/`.
    pub(crate) url: String,
    /// Certificate chain and key; plain http on loopback without.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) client_id: String,
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) roles: Roles,
    pub(crate) lifetimes: Lifetimes,
}

/// Reviewers' and administrators' groups, as other sections name them.
type Groups<'a> = (&'a Approvals, &'a BTreeMap<String, String>);

pub(super) fn check_console(
    raw: Option<&RawConsole>,
    groups: Groups<'_>,
    checker: &mut Checker<'_>,
) -> Option<Console> {
    let raw = raw?;
    checker.guid("console.client.id", &raw.client_id);
    let listen = check_listen(raw, checker);
    let scheme = if raw.tls.is_some() { "https" } else { "http" };
    let url = match (&raw.url, listen) {
        (Some(url), _) => check_url(url, raw.tls.is_some(), checker),
        (None, Some(listen)) => Some(format!("{scheme}://{listen}")),
        (None, None) => None,
    };
    let defaults = Lifetimes::default();
    let mut seconds = |field: &str, given: Option<u64>, or: i64| {
        let path = format!("console.{field}");
        let or = u64::try_from(or).unwrap_or(1);
        let seconds = checker.number(&path, given, (10, ABSOLUTE_S_MAX), or);
        i64::try_from(seconds).unwrap_or(1)
    };
    let lifetimes = Lifetimes {
        idle_s: seconds("idle_s", raw.idle_s, defaults.idle_s),
        absolute_s: seconds("absolute_s", raw.absolute_s, defaults.absolute_s),
        fresh_s: seconds("fresh_s", raw.fresh_s, defaults.fresh_s),
    };
    let roles = check_roles(raw, groups, checker);
    let file = |path: &String| checker.file(path);
    Some(Console {
        listen: listen?,
        url: url?,
        tls: raw
            .tls
            .as_ref()
            .map(|(chain, key)| (file(chain), file(key))),
        client_id: raw.client_id.clone(),
        client_secret_file: raw.client_secret_file.as_ref().map(file),
        roles,
        lifetimes,
    })
}

/// Stands for the address in [`own_address`], where one file is for many nodes.
const OWN_ADDRESS: &str = "node:";

#[expect(
    clippy::disallowed_methods,
    reason = "the configuration leaves it to the environment of each node"
)]
fn own_address() -> Option<IpAddr> {
    std::env::var("WEIR_NODE_ADDRESS").ok()?.parse().ok()
}

/// One address: it is kept from every governed process by the kernel, and "all" cannot be.
fn check_listen(raw: &RawConsole, checker: &mut Checker<'_>) -> Option<SocketAddr> {
    let listen = match raw.listen.strip_prefix(OWN_ADDRESS) {
        Some(port) => match (own_address(), port.parse()) {
            (Some(address), Ok(port)) => Some(SocketAddr::new(address, port)),
            (None, _) => {
                let text = "names this node's own address, and WEIR_NODE_ADDRESS is not set to one";
                checker.say("console.listen", text);
                return None;
            }
            (Some(_), Err(_)) => None,
        },
        None => raw.listen.parse().ok(),
    };
    let Some(listen) = listen else {
        checker.say(
            "console.listen",
            "must be address:port, such as 10.20.0.7:8443, or node:8443",
        );
        return None;
    };
    if listen.ip().is_unspecified() || listen.port() == 0 {
        checker.say(
            "console.listen",
            "must be one address and port: governed processes are kept from exactly that one",
        );
        return None;
    }
    if raw.tls.is_none() && !listen.ip().is_loopback() {
        checker.say("console.tls", "is required except on a loopback address");
    }
    Some(listen)
}

fn check_url(text: &str, tls: bool, checker: &mut Checker<'_>) -> Option<String> {
    let url = url::Url::parse(text).ok();
    let good = url.as_ref().is_some_and(|url| {
        let local = url.host().is_some_and(|host| match host {
            url::Host::Ipv4(addr) => addr.is_loopback(),
            url::Host::Ipv6(addr) => addr.is_loopback(),
            url::Host::Domain(name) => name == "localhost",
        });
        (url.scheme() == "https" || (url.scheme() == "http" && local && !tls))
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
    });
    if !good {
        checker.say(
            "console.url",
            "must be an origin that browsers see, such as https://weir.example",
        );
        return None;
    }
    url.map(|url| url.origin().ascii_serialization())
}

fn check_roles(
    raw: &RawConsole,
    (approvals, admins): Groups<'_>,
    checker: &mut Checker<'_>,
) -> Roles {
    let mut reviewers: BTreeMap<String, Vec<Who>> = approvals
        .reviewer_groups
        .iter()
        .map(|(name, guid)| (name.clone(), vec![Who::Group(guid.clone())]))
        .collect();
    for (name, role) in &raw.reviewer_roles {
        let path = format!("console.reviewer_roles.{name}");
        let Some(all) = reviewers.get_mut(name) else {
            checker.say(path, "is none of approvals.reviewer_groups");
            continue;
        };
        all.extend(who(&path, role, checker));
    }
    let mut list = |field: &str, given: &[(String, String)]| -> Vec<Who> {
        given
            .iter()
            .filter_map(|(name, text)| who(&format!("console.{field}.{name}"), text, checker))
            .collect()
    };
    let auditors = list("auditors", &raw.auditors);
    let mut administrators = list("administrators", &raw.administrators);
    if raw.administrators.is_empty() {
        administrators = admins.values().cloned().map(Who::Group).collect();
    }
    Roles {
        reviewers,
        auditors,
        administrators,
    }
}

/// A GUID is a group, anything else the value of an app role.
fn who(path: &str, text: &str, checker: &mut Checker<'_>) -> Option<Who> {
    if is_guid(text) {
        return Some(Who::Group(text.to_owned()));
    }
    let plain = (1..=ROLE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain {
        checker.say(path, "must be a group's GUID or the value of an app role");
        return None;
    }
    Some(Who::AppRole(text.to_owned()))
}
