//! The file's errors, all at once and with their paths.

use std::path::Path;

use super::*;

mod console;
mod sets;

pub(crate) const GOOD: &str = r#"
version: 1
node: { name: n1, cluster: lab, user: nobody, cgroup: /weir, governed: /agents }
identity:
  authority: http://127.0.0.1:9443
  allow_plain_loopback: true
  tenants: ["11111111-1111-4111-8111-111111111111"]
  audience: "22222222-2222-4222-8222-222222222222"
  required_role: Agent.Connect
workloads:
  - name: analyst
    cgroup: /agents/analyst
    identity:
      kind: federated
      tenant: "11111111-1111-4111-8111-111111111111"
      client_id: "33333333-3333-4333-8333-333333333333"
      token_file: tokens/analyst
targets:
  - name: demo
    protocol: postgres
    match: { hosts: ["10.77.0.10", "fd77::/64"], ports: [5432] }
    tls: { agent: optional, names: [db.demo.internal] }
    credential: { user: weir_app, password_file: pw }
policies: { directory: policies }
"#;

pub(super) fn problems(text: &str) -> Vec<String> {
    parse(text, Path::new("/etc/weir"))
        .err()
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_good_file_is_read_with_paths_relative_to_it() {
    let config = parse(GOOD, Path::new("/etc/weir")).unwrap();
    assert_eq!(config.policies, Path::new("/etc/weir/policies"));
    assert_eq!(config.targets[0].matching.nets.len(), 2);
    let Credential::Password {
        user,
        from: SecretFrom::File(file),
    } = &config.targets[0].credential
    else {
        panic!("a password of a file was configured");
    };
    assert_eq!(
        (user.as_str(), file.as_path()),
        ("weir_app", Path::new("/etc/weir/pw"))
    );
    assert_eq!(config.approvals.expires_s, 1800);
    assert_eq!(config.mask_key_file, Path::new("/var/lib/weir/mask.key"));
}

#[test]
fn every_problem_is_reported_at_once_with_its_path() {
    let bad = GOOD
        .replace("version: 1", "version: 2")
        .replace("fd77::/64", "fd77::1/64")
        .replace("ports: [5432]", "ports: [0, 70000]")
        .replace("cgroup: /agents/analyst", "cgroup: /elsewhere")
        .replace("protocol: postgres", "protocol: gopher\n    colour: red")
        .replace("kind: federated", "kind: magic");
    let found = problems(&bad);
    for expected in [
        "version: 2 is not known",
        "targets[0].match.hosts[1]: 'fd77::1/64' has bits set beyond its prefix",
        "targets[0].match.ports[0]: must be from 1 to 65535",
        "targets[0].match.ports[1]",
        "workloads[0].cgroup: must lie below node.governed",
        "targets[0].protocol: must be 'postgres', 'kubernetes' or 'ssh'",
        "targets[0].colour: unknown name",
        "workloads[0].identity.kind",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{expected} not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 8, "{found:#?}");
}

#[test]
fn wrong_shapes_and_missing_parts_are_named() {
    let found = problems("version: 1\nnode: 3\ntargets: {}\n");
    assert!(
        found
            .iter()
            .any(|p| p == "node: expected a mapping, found a number"),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|p| p == "targets: expected a list, found a mapping"),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|p| p == "identity: is required"),
        "{found:#?}"
    );
}

#[test]
fn duplicate_keys_and_broken_yaml_are_errors() {
    assert_eq!(problems("version: 1\nversion: 1\n").len(), 1);
    assert!(problems("version: [1\n")[0].starts_with("not valid YAML"));
    assert!(!problems("").is_empty());
}

#[test]
fn two_targets_may_not_claim_one_place() {
    let twice = GOOD.replace(
        "policies:",
        "  - name: other\n    protocol: postgres\n    match: { hosts: [\"10.77.0.10\"], ports: [5432] }\n    credential: { user: u, password_file: pw }\npolicies:",
    );
    let found = problems(&twice);
    assert!(
        found
            .iter()
            .any(|p| p.contains("belongs to another target")),
        "{found:#?}"
    );
}

/// A Kubernetes target that is complete.
const CLUSTER: &str = "  - name: cluster
    protocol: kubernetes
    match: { hosts: [\"10.77.0.11\"], ports: [443] }
    tls: { names: [kubernetes.default.svc] }
    upstream: { ca_file: ca.pem, server_name: kubernetes.default.svc }
    credential: { token_file: token }
policies:";

#[test]
fn a_cluster_needs_names_a_ca_and_a_token() {
    let with = |target: &str| GOOD.replace("policies:", target);
    let none: [String; 0] = [];
    assert_eq!(problems(&with(CLUSTER)), none);
    for (from, to, expected) in [
        (
            "    tls: { names: [kubernetes.default.svc] }\n",
            "",
            "targets[1].tls.names",
        ),
        (
            "tls: { names",
            "tls: { agent: optional, names",
            "targets[1].tls.agent: is always required",
        ),
        (
            "    upstream: { ca_file: ca.pem, server_name: kubernetes.default.svc }\n",
            "",
            "targets[1].upstream.ca_file",
        ),
        (
            "upstream: { ca",
            "upstream: { tls: disable, ca",
            "targets[1].upstream.tls: must be require",
        ),
        (
            "credential: { token_file: token }",
            "credential: { user: u, password_file: p }",
            "targets[1].credential.token_file: is missing",
        ),
    ] {
        let found = problems(&with(&CLUSTER.replace(from, to)));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected} not in {found:#?}"
        );
    }
}

#[test]
fn a_target_of_ssh_needs_the_servers_keys_and_one_credential() {
    let ssh = |rest: &str| {
        let target = format!(
            "  - name: host\n    protocol: ssh\n    match: {{ hosts: [\"10.77.0.11\"] }}\n{rest}\npolicies:"
        );
        GOOD.replace("policies:", &target)
    };
    let good = "    ssh: { names: [host.internal] }\n    upstream: { host_keys_file: keys }\n    \
                credential: { user: deploy, key_file: key }";
    let config = parse(&ssh(good), Path::new("/etc/weir")).unwrap();
    let host = &config.targets[1];
    assert_eq!(host.names, ["host.internal"]);
    assert_eq!(host.agent_tls, AgentTls::Off);
    assert!(host.ssh.as_ref().is_some_and(|ssh| ssh.host_key.is_none()));
    let roles = "    upstream: { host_keys_file: keys }\n    \
                 credential:\n      key_exec: [/usr/bin/agent-key]\n      certificate_file: c\n      \
                 roles:\n        - { group: a, user: reader }\n        \
                 - { group: b, user: owner, key_file: other }";
    let config = parse(&ssh(roles), Path::new("/etc/weir")).unwrap();
    let own: Vec<bool> = config.targets[1]
        .roles
        .iter()
        .map(|role| role.from.is_some())
        .collect();
    assert_eq!(own, [false, true]);
    for (rest, expected) in [
        (
            "    credential: { key_file: key }",
            "targets[1].upstream.host_keys_file: is missing",
        ),
        (
            "    upstream: { host_keys_file: keys }\n    credential: { user: deploy }",
            "targets[1].credential.key_file: ssh needs either key_file or password_file",
        ),
        (
            "    upstream: { host_keys_file: keys, tls: require }\n    credential: { key_file: key }",
            "targets[1].upstream.tls: SSH has no TLS",
        ),
        (
            "    tls: { agent: required }\n    upstream: { host_keys_file: keys }\n    \
             credential: { key_file: key }",
            "targets[1].tls: SSH has no TLS",
        ),
        (
            "    upstream: { host_keys_file: keys }\n    \
             credential: { password_file: pw, certificate_file: c }",
            "targets[1].credential.certificate_file: belongs to a key_file",
        ),
        (
            "    upstream: { host_keys_file: keys }\n    credential:\n      key_file: k\n      \
             roles: [{ group: a, user: b, password_file: p }]",
            "targets[1].credential.roles[0].password_file: is not what the target has",
        ),
        (
            "    upstream: { host_keys_file: keys }\n    credential: { key_file: k, key_env: E }",
            "targets[1].credential.key_file: comes from more than one place",
        ),
    ] {
        let found = problems(&ssh(rest));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected} not in {found:#?}"
        );
    }
}

#[test]
fn tokens_are_taken_over_tls_only() {
    let with = |target: &str| {
        let text = GOOD.replace(
            "    tls: { agent: optional, names: [db.demo.internal] }",
            &format!("    accept_token: true\n    {target}"),
        );
        parse(&text, Path::new("/etc/weir"))
    };
    for good in [
        "tls: { names: [db.demo.internal] }",
        "tls: { agent: required, names: [db.demo.internal] }",
    ] {
        let config = with(good).unwrap();
        assert!(config.targets[0].accept_token);
        assert_eq!(config.targets[0].agent_tls, AgentTls::Required, "{good}");
    }
    for (bad, expected) in [
        (
            "tls: { agent: \"off\", names: [x] }",
            "targets[0].tls.agent: must be required with",
        ),
        (
            "tls: { agent: optional, names: [x] }",
            "targets[0].tls.agent: must be required with",
        ),
        (
            "tls: { agent: required }",
            "targets[0].tls.names: needs the names",
        ),
    ] {
        let found = with(bad).unwrap_err();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|one| one.starts_with(expected)),
            "{bad}: {found:#?}"
        );
    }
    assert!(!parse(GOOD, Path::new("/etc/weir")).unwrap().targets[0].accept_token);
}

#[test]
fn detectors_and_patterns_of_output_are_checked() {
    let with = |masking: &str| GOOD.replace("policies:", &format!("{masking}\npolicies:"));
    let good = "masking: { detectors: [jwt, password], patterns: { ticket: 'T-[0-9]{6}' } }";
    assert!(
        problems(&with(good)).is_empty(),
        "{:?}",
        problems(&with(good))
    );
    for (masking, expected) in [
        (
            "masking: { detectors: [magic] }",
            "masking.detectors[0]: must be one of",
        ),
        (
            "masking: { patterns: { ticket: '(' } }",
            "masking.patterns: pattern ticket",
        ),
    ] {
        let found = problems(&with(masking));
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected} not in {found:#?}"
        );
    }
}

/// Problems of the workload's identity, with `lines` in place of its token file.
fn of_identity(kind: &str, lines: &str) -> Vec<String> {
    let text = GOOD
        .replace("kind: federated", &format!("kind: {kind}"))
        .replace("token_file: tokens/analyst", lines);
    problems(&text)
}

#[test]
fn every_way_to_sign_in_has_its_own_fields() {
    for (kind, lines) in [
        (
            "certificate",
            "certificate_file: c.pem\n      algorithm: RS256",
        ),
        ("secret", "secret_file: s"),
        ("managed", ""),
        (
            "agent_id",
            "token_file: t\n      blueprint: \"44444444-4444-4444-8444-444444444444\"",
        ),
        (
            "federated",
            "service_account: agents/analyst\n      token_request: { server: \"https://10.0.0.1\", \
             credential_file: c }",
        ),
    ] {
        assert_eq!(of_identity(kind, lines), [""; 0], "{kind}");
    }
}

#[test]
fn fields_of_another_way_and_missing_ones_are_named() {
    let said = |kind: &str, lines: &str, expected: &str| {
        let found = of_identity(kind, lines);
        let expected = format!("workloads[0].identity.{expected}");
        assert!(
            found.iter().any(|one| one.starts_with(&expected)),
            "{found:#?}"
        );
    };
    said("secret", "token_file: t", "token_file: is for kind");
    said("secret", "", "secret_file: is required");
    said(
        "certificate",
        "certificate_file: c\n      algorithm: none",
        "algorithm: must be",
    );
    said(
        "agent_id",
        "token_file: t",
        "blueprint: must be a lower-case GUID",
    );
    said("federated", "", "token_file: needs exactly one of");
    said(
        "federated",
        "token_file: t\n      token_in_container: /t",
        "token_file: needs exactly",
    );
    // The workload chooses what is there: without the cluster's keys it would prove nothing.
    said(
        "federated",
        "token_in_container: /t",
        "token_in_container: needs identity.cluster",
    );
    said(
        "federated",
        "token_file: t\n      service_account: analyst",
        "service_account: must be",
    );
    said(
        "person",
        "",
        "kind: people sign in to identity.reviewer_client_id",
    );
}

#[test]
fn a_witness_is_a_file_alone_or_a_service() {
    let with = |witness: &str| format!("{GOOD}record: {{ witness: {witness} }}\n");
    let witness = |text: &str| {
        let config = parse(&with(text), Path::new("/etc/weir")).unwrap();
        config.record.witness.unwrap()
    };
    let Witness::File(file) = witness("{ file: lines }") else {
        panic!("a file was configured")
    };
    assert_eq!(file, Path::new("/etc/weir/lines"));
    let service = "{ url: 'https://witness.example/a', ca_file: ca.pem, token_file: token }";
    let Witness::Service {
        url,
        ca_file,
        token_file,
    } = witness(service)
    else {
        panic!("a service was configured")
    };
    assert_eq!(url, "https://witness.example/a");
    assert_eq!(ca_file.as_deref(), Some(Path::new("/etc/weir/ca.pem")));
    assert_eq!(token_file.as_deref(), Some(Path::new("/etc/weir/token")));
    witness("{ url: 'http://127.0.0.1:99/a' }");
    for (text, expected) in [
        ("{}", "record.witness: needs either file alone"),
        (
            "{ file: a, url: 'https://w.example' }",
            "record.witness: needs either file alone",
        ),
        (
            "{ file: a, ca_file: b }",
            "record.witness: needs either file alone",
        ),
        (
            "{ file: a, token_file: b }",
            "record.witness: needs either file alone",
        ),
        (
            "{ token_file: b }",
            "record.witness: needs either file alone",
        ),
        (
            "{ url: 'http://w.example/a' }",
            "record.witness.url: must start with https://",
        ),
        (
            "{ url: 'ftp://127.0.0.1/a' }",
            "record.witness.url: must start with https://",
        ),
        ("{ file: a, colour: red }", "record.witness.colour"),
        ("{ file: 3 }", "record.witness.file"),
        ("a", "record.witness"),
    ] {
        let found = problems(&with(text));
        // What has the wrong type is not there either.
        assert!((1..=2).contains(&found.len()), "{text}: {found:?}");
        assert!(found[0].starts_with(expected), "{text}: {found:?}");
    }
    for seconds in ["0", "3601", "often"] {
        let found = problems(&format!("{GOOD}record: {{ anchor_s: {seconds} }}\n"));
        assert!(
            found.len() == 1 && found[0].starts_with("record.anchor_s"),
            "{found:?}"
        );
    }
}
