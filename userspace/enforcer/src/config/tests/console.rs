//! The console and the notifiers.

use std::path::Path;

use weir_console::Who;

use super::{GOOD, problems};
use crate::config::{Way, parse};

const GROUP: &str = "44444444-4444-4444-8444-444444444444";

fn console(section: &str) -> String {
    format!("{GOOD}approvals: {{ reviewer_groups: {{ dba: \"{GROUP}\" }} }}\nconsole: {section}\n")
}

const CLIENT: &str = "client: { id: \"55555555-5555-4555-8555-555555555555\", secret_file: s }";

#[test]
fn a_console_has_one_address_a_certificate_and_roles() {
    let text = console(&format!(
        "{{ listen: \"10.0.0.7:8443\", url: \"https://weir.example/\", {CLIENT},
           tls: {{ certificate_file: c.pem, key_file: c.key }},
           auditors: {{ a: Weir.Auditor }}, reviewer_roles: {{ dba: Weir.Reviewer }} }}"
    ));
    let config = parse(&text, Path::new("/etc/weir")).unwrap();
    let console = config.console.unwrap();
    assert_eq!(console.url, "https://weir.example");
    let dba = &console.roles.reviewers["dba"];
    let role = Who::AppRole("Weir.Reviewer".to_owned());
    assert_eq!(dba, &[Who::Group(GROUP.to_owned()), role]);
    assert!(console.roles.administrators.is_empty(), "nobody by default");
}

#[test]
fn administrators_of_the_console_are_named_and_never_reviewers_by_default() {
    const SRE: &str = "66666666-6666-4666-8666-666666666666";
    let admins = format!("admin: {{ groups: {{ sre: \"{SRE}\" }} }}\n");
    let who = |more: &str, admins: &str| {
        let section = format!(
            "{{ listen: \"10.0.0.7:8443\", url: \"https://weir.example/\", {CLIENT},
               tls: {{ certificate_file: c.pem, key_file: c.key }} {more} }}"
        );
        let text = format!("{}{admins}", console(&section));
        let config = parse(&text, Path::new("/etc/weir")).unwrap();
        config.console.unwrap().roles.administrators
    };
    let role = Who::AppRole("Weir.Admin".to_owned());
    let own = ", administrators: { a: Weir.Admin }";
    // They see the whole record, which is more than reviewers do.
    assert_eq!(who("", ""), []);
    assert_eq!(who("", &admins), [Who::Group(SRE.to_owned())]);
    assert_eq!(who(own, &admins), [role]);
}

#[test]
fn what_a_console_must_not_be() {
    for (section, expected) in [
        (
            "listen: \"0.0.0.0:8443\"",
            "console.listen: must be one address",
        ),
        (
            "listen: \"10.0.0.7:0\"",
            "console.listen: must be one address",
        ),
        ("listen: everywhere", "console.listen: must be address:port"),
        (
            "listen: \"node:8443\"",
            "console.listen: names this node's own address",
        ),
        ("listen: \"10.0.0.7:8443\"", "console.tls: is required"),
        (
            "listen: \"127.0.0.1:1\", url: \"http://weir.example\"",
            "console.url: ",
        ),
        (
            "listen: \"127.0.0.1:1\", url: \"https://a/b\"",
            "console.url: ",
        ),
        (
            "listen: \"127.0.0.1:1\", idle_s: 1",
            "console.idle_s: must be from",
        ),
        (
            "listen: \"127.0.0.1:1\", auditors: { a: \"two words\" }",
            "console.auditors.a: ",
        ),
        (
            "listen: \"127.0.0.1:1\", reviewer_roles: { x: R }",
            "console.reviewer_roles.x: ",
        ),
        ("listen: \"127.0.0.1:1\", colour: red", "console.colour"),
    ] {
        let found = problems(&console(&format!("{{ {section}, {CLIENT} }}")));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{section}: {expected} not in {found:#?}"
        );
    }
}

fn notifiers(one: &str) -> String {
    let groups = format!("reviewer_groups: {{ dba: \"{GROUP}\" }}");
    format!("{GOOD}approvals: {{ {groups}, notifiers: [{{ name: one, {one} }}] }}\n")
}

#[test]
fn notifiers_of_every_kind_are_read() {
    for one in [
        "kind: webhook, url: \"https://a.example/x\", secret_file: s",
        "kind: slack, token_file: t, channel: C1, signing_secret_file: s, groups: [dba]",
        "kind: teams, url_file: u, statement: false",
        "kind: mail, server: smtp.example, from: a@example.com, to: [b@example.com]",
    ] {
        let config = parse(&notifiers(one), Path::new("/etc/weir"));
        let config = config.unwrap_or_else(|problems| panic!("{one}: {problems:?}"));
        let notifier = &config.approvals.notifiers[0];
        assert_eq!(notifier.statement, !one.contains("statement: false"));
        if let Way::Mail { port, .. } = &notifier.way {
            assert_eq!(*port, 587);
        }
    }
}

#[test]
fn what_a_notifier_must_not_be() {
    for (one, expected) in [
        ("kind: pigeon", "approvals.notifiers[0].kind: must be"),
        (
            "kind: webhook, url: \"https://a\"",
            "approvals.notifiers[0].secret_file: is required",
        ),
        (
            "kind: webhook, url: \"http://a.example\", secret_file: s",
            "approvals.notifiers[0].url: must be https",
        ),
        (
            "kind: slack, token_file: t, channel: C, groups: [x]",
            "approvals.notifiers[0].groups: ",
        ),
        (
            "kind: mail, server: s, from: a@b, to: []",
            "approvals.notifiers[0].to: is required",
        ),
        (
            "kind: mail, server: s, from: a@b, to: [c@d], tls: none",
            "approvals.notifiers[0].tls: none is for",
        ),
        (
            "kind: mail, server: s, from: a@b, to: [c@d], user: u",
            "approvals.notifiers[0].user: belongs to",
        ),
    ] {
        let found = problems(&notifiers(one));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{one}: {expected} not in {found:#?}"
        );
    }
}
