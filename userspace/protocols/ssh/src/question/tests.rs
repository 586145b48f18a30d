//! What the starter policies say of command lines and files.

use std::collections::{BTreeMap, BTreeSet};

use weir_decide::{Lifted, Outcome, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::time::Now;

use super::*;
use crate::vocabulary::VOCABULARY;

const ANALYSTS: &str = "9a000000-0000-4000-8000-000000000001";
const OPERATORS: &str = "9a000000-0000-4000-8000-000000000002";
const NOW: Now = Now {
    mono_us: 1,
    wall_us: 1,
};

fn policies() -> Arc<PolicySet> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../deploy/policies/90-ssh.cedar"
    );
    let source = PolicySource {
        name: "90-ssh.cedar".to_owned(),
        text: std::fs::read_to_string(path).unwrap(),
    };
    let settings = PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned()]),
        targets: vec!["host".to_owned()],
        group_aliases: BTreeMap::from([
            ("analysts".to_owned(), ANALYSTS.to_owned()),
            ("operators".to_owned(), OPERATORS.to_owned()),
        ]),
    };
    match PolicySet::compile(&[source], &[&VOCABULARY], &settings) {
        Ok(set) => Arc::new(set),
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"));
        }
    }
}

fn principal(group: &str) -> Principal {
    Principal {
        kind: PrincipalKind::Application,
        cloud: Arc::from("lab"),
        tenant: Arc::from("t"),
        oid: Arc::from("o"),
        app: Arc::from("a"),
        on_behalf_of: None,
        groups: Groups::Known([Arc::from(group)].into_iter().collect()),
        roles: BTreeSet::new(),
        token_id: Arc::from(""),
        workload: Arc::from("w"),
        evidence: EvidenceKind::Federated,
        valid_until_s: i64::MAX,
    }
}

fn place() -> Place {
    Place {
        target: Arc::from("host"),
        user: Arc::from("deploy"),
        requested: Arc::from("deploy"),
    }
}

/// `allow`, `deny RULE` or `hold RULES`, with ` masked` when output is.
fn decide(group: &str, request: &Request) -> String {
    let target = TargetRef {
        name: Arc::from("host"),
        namespace: VOCABULARY.namespace,
    };
    let mut bound = policies().bind(&principal(group), &target);
    match bound.decide(1, SessionId(1), &request.intent, &Lifted::none(), NOW) {
        Outcome::Permit(permit) if permit.obligations().masks.is_empty() => "allow".to_owned(),
        Outcome::Permit(_) => "allow masked".to_owned(),
        Outcome::Denial(denial) => format!("deny {}", denial.rule),
        Outcome::Hold(hold) => format!("hold {}", hold.rules.join(" ")),
    }
}

#[test]
fn command_lines_are_decided_by_all_that_they_do() {
    for (command, analyst, operator) in [
        ("uptime", "allow masked", "allow masked"),
        (
            "cat app.log | grep paid | wc -l",
            "allow masked",
            "allow masked",
        ),
        ("ls; uname -a", "allow masked", "allow masked"),
        ("git pull", "deny weir:no-permit", "allow masked"),
        ("ls; git pull", "deny weir:no-permit", "allow masked"),
        ("echo x > app.conf", "deny weir:no-permit", "allow masked"),
        (
            "sudo systemctl restart app",
            "deny weir:no-permit",
            "hold ssh-stopping-needs-review",
        ),
        (
            "bash -c 'rm -rf /srv'",
            "deny weir:no-permit",
            "hold ssh-stopping-needs-review",
        ),
        (
            "true && $(echo r)m x",
            "deny weir:no-permit",
            "hold ssh-unclear-needs-review",
        ),
        (
            "python3 -c 'import os'",
            "deny weir:no-permit",
            "hold ssh-unclear-needs-review",
        ),
        (
            "find . -name '*.log' -delete",
            "deny weir:no-permit",
            "hold ssh-deleting-arguments-need-review",
        ),
        (
            "cat /etc/shadow",
            "deny ssh-no-system-files-by-command",
            "deny ssh-no-system-files-by-command",
        ),
        (
            "cat < /etc/passwd",
            "deny ssh-no-system-files",
            "deny ssh-no-system-files",
        ),
        (
            "echo k >> /srv/../root/.ssh/authorized_keys",
            "deny ssh-no-system-files-by-command",
            "deny ssh-no-system-files-by-command",
        ),
        ("if", "deny weir:no-permit", "hold ssh-unclear-needs-review"),
    ] {
        let request = place().exec(command, false);
        let short = |outcome: String| match outcome.split_once(", ") {
            Some((first, _)) => first.to_owned(),
            None => outcome,
        };
        assert_eq!(
            short(decide(ANALYSTS, &request)),
            analyst,
            "analyst: {command}"
        );
        assert_eq!(
            short(decide(OPERATORS, &request)),
            operator,
            "operator: {command}"
        );
    }
}

#[test]
fn shells_files_and_destinations_are_decided_on_their_own() {
    let file = |operation, action, path: &str| {
        let files = [FileAccess {
            action,
            path: Arc::from(path),
        }];
        place().file(operation, &files, 0)
    };
    for (request, analyst, operator) in [
        (
            place().shell(true),
            "deny weir:no-permit",
            "hold ssh-unclear-needs-review",
        ),
        (place().sftp(), "allow", "allow"),
        (file("open", "readFile", "/srv/app.log"), "allow", "allow"),
        (
            file("open", "writeFile", "/srv/app.log"),
            "deny weir:no-permit",
            "allow",
        ),
        (
            file("open", "readFile", "/srv/app.conf"),
            "deny ssh-no-secret-files",
            "allow",
        ),
        (
            file("open", "readFile", "/etc/shadow"),
            "deny ssh-no-system-files",
            "deny ssh-no-system-files",
        ),
        (
            file("remove", "deleteFile", "/srv/app.log"),
            "deny weir:no-permit",
            "hold ssh-delete-needs-review",
        ),
        (
            place().forward("127.0.0.1", 8080),
            "deny weir:no-permit",
            "allow",
        ),
        (
            place().forward("10.0.0.1", 22),
            "deny weir:no-permit",
            "deny weir:no-permit",
        ),
    ] {
        assert_eq!(decide(ANALYSTS, &request), analyst, "{}", request.statement);
        assert_eq!(
            decide(OPERATORS, &request),
            operator,
            "{}",
            request.statement
        );
    }
}
