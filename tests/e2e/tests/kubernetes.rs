//! Real kubectl inside an agent: masked, allowed, refused, held, recorded.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weir_e2e::lab::{Lab, Said};
use weir_e2e::{lab, until};

/// The value of the seeded Secret; also looked for in base64.
const CANARY: &str = "canary-7f3a-secret";

fn kubectl(lab: &Lab, agent: &str, arguments: &[&str]) -> Result<Said> {
    let mut command = vec!["kubectl"];
    command.extend(arguments);
    lab.exec(agent, &command, "")
}

/// Requests that reached the server, as it wrote them down.
fn reached(lab: &Lab) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(lab.name("LAB_CLUSTER_LOG")?)?;
    text.lines()
        .map(|line| serde_json::from_str(line).context("a line of the server's log"))
        .collect()
}

fn clean(said: &Said) -> bool {
    !said.has(CANARY) && !said.has(&STANDARD.encode(CANARY))
}

#[test]
fn no_way_to_get_a_secret_shows_its_value() -> Result<()> {
    let lab = Lab::current()?;
    let get = ["-n", "shop", "get", "secrets", "db-credentials"];
    for more in [
        &["-o", "yaml"][..],
        &["-o", "json"],
        &["-o", "wide"],
        &["-o", "name"],
        &["-o", "jsonpath={.data}"],
        &["-o", "custom-columns=D:.data"],
        &["-o", "go-template={{.data}}"],
        &["-o", "json", "--show-managed-fields"],
        &[],
    ] {
        let arguments: Vec<&str> = get.iter().chain(more).copied().collect();
        let said = kubectl(&lab, "analyst", &arguments)?;
        ensure!(said.code == 0 && clean(&said), "{arguments:?}: {said:?}");
    }
    for arguments in [
        &["-n", "shop", "get", "secrets", "-o", "yaml"][..],
        &["-n", "shop", "describe", "secret", "db-credentials"],
        &["-n", "shop", "get", "secret,configmap", "-o", "json"],
        &["get", "--raw", "/api/v1/namespaces/shop/secrets"],
        &[
            "get",
            "--raw",
            "/api/v1/namespaces/shop/%73ecrets/db-credentials",
        ],
        &[
            "get",
            "--raw",
            "/api/v1/namespaces/shop/secrets?watch=1&timeoutSeconds=1",
        ],
    ] {
        let said = kubectl(&lab, "analyst", arguments)?;
        ensure!(said.code == 0 && clean(&said), "{arguments:?}: {said:?}");
        ensure!(said.has("db-credentials"), "{arguments:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn what_a_client_asks_for_in_other_encodings_is_masked_json_or_refused() -> Result<()> {
    let lab = Lab::current()?;
    let url = format!(
        "{}/api/v1/namespaces/shop/secrets",
        lab.name("LAB_CLUSTER_SERVER")?
    );
    for accept in [
        "application/vnd.kubernetes.protobuf",
        "application/cbor",
        "application/yaml",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ] {
        for version in ["--http1.1", "--http2"] {
            let header = format!("accept: {accept}");
            let said = lab.exec(
                "analyst",
                &["curl", "-sk", version, "-H", &header, "--compressed", &url],
                "",
            )?;
            ensure!(clean(&said), "{accept} {version}: {said:?}");
            ensure!(said.has("db-credentials"), "{accept} {version}: {said:?}");
        }
    }
    Ok(())
}

#[test]
fn reading_works_as_without_weir() -> Result<()> {
    let lab = Lab::current()?;
    for (arguments, expected) in [
        (&["version"][..], "Server Version"),
        (&["api-resources"], "deployments"),
        (&["get", "ns"], "shop"),
        (&["-n", "shop", "get", "pods"], "web-0"),
        (&["-n", "shop", "get", "pods", "-o", "name"], "pod/web-0"),
        (
            &["-n", "shop", "get", "deploy", "web", "-o", "yaml"],
            "kind: Deployment",
        ),
        (&["-n", "shop", "logs", "web-0"], "web-0"),
        (&["-n", "shop", "get", "pods", "-l", "app=web"], "web-0"),
        (&["auth", "can-i", "get", "pods", "-n", "shop"], "yes"),
    ] {
        let said = kubectl(&lab, "analyst", arguments)?;
        ensure!(
            said.code == 0 && said.has(expected),
            "{arguments:?}: {said:?}"
        );
    }
    Ok(())
}

#[test]
fn refusals_name_the_rule_and_never_reach_the_server() -> Result<()> {
    let lab = Lab::current()?;
    for (agent, arguments, rule) in [
        ("analyst", &["get", "secrets", "-A"][..], "weir:no-permit"),
        (
            "analyst",
            &["-n", "shop", "delete", "pod", "web-1"],
            "weir:no-permit",
        ),
        (
            "analyst",
            &["-n", "kube-system", "get", "secrets"],
            "weir:no-permit",
        ),
        (
            "operator",
            &[
                "create",
                "clusterrolebinding",
                "x",
                "--clusterrole=admin",
                "--user=me",
            ],
            "weir:no-permit",
        ),
        (
            "operator",
            &["-n", "shop", "create", "token", "default"],
            "no-cluster-escalation",
        ),
    ] {
        let before = reached(&lab)?.len();
        let said = kubectl(&lab, agent, arguments)?;
        ensure!(said.code != 0 && said.has(rule), "{arguments:?}: {said:?}");
        ensure!(said.has("Forbidden") || said.has("error"), "{said:?}");
        for request in &reached(&lab)?[before..] {
            let path = request["path"].as_str().unwrap_or_default();
            let read = request["method"] == "GET" && !path.contains("secrets");
            ensure!(read, "{arguments:?} reached the server: {request}");
        }
    }
    Ok(())
}

#[test]
fn clients_cannot_be_somebody_else() -> Result<()> {
    let lab = Lab::current()?;
    let said = kubectl(&lab, "analyst", &["--as=admin", "get", "ns"])?;
    ensure!(said.code != 0 && !said.has("shop"), "{said:?}");
    let url = format!("{}/api/v1/namespaces", lab.name("LAB_CLUSTER_SERVER")?);
    let as_admin = ["curl", "-sk", "-H", "impersonate-user: admin", &url];
    let said = lab.exec("analyst", &as_admin, "")?;
    ensure!(said.has("impersonation is set by Weir alone"), "{said:?}");
    let before = reached(&lab)?.len();
    let said = lab.exec(
        "analyst",
        &[
            "curl",
            "-sk",
            "-H",
            "authorization: Bearer mine",
            "-H",
            "x-remote-user: admin",
            "-H",
            "cookie: a=b",
            &url,
        ],
        "",
    )?;
    ensure!(said.has("NamespaceList"), "{said:?}");
    let requests = reached(&lab)?;
    let request = requests[before..].first().context("a request")?;
    ensure!(
        request["user"] == "system:serviceaccount:kube-system:admin",
        "the agent's token was used: {request}"
    );
    let groups = request["impersonate"]["groups"].to_string();
    ensure!(
        groups.contains(&lab.name("LAB_GROUP_ANALYSTS")?),
        "not asked as the principal: {request}"
    );
    Ok(())
}

#[test]
fn an_operator_applies_and_patches_and_masked_values_are_not_written_back() -> Result<()> {
    let lab = Lab::current()?;
    let manifest = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"made"},
        "stringData":{"a":"canary-7f3a-secret"}}"#;
    let apply = ["kubectl", "-n", "shop", "apply", "-f", "-"];
    for _twice in 0..2 {
        let said = lab.exec("operator", &apply, manifest)?;
        ensure!(said.code == 0 && clean(&said), "{said:?}");
    }
    let patch = r#"{"metadata":{"labels":{"by":"weir"}}}"#;
    for kind in ["merge", "strategic"] {
        let said = kubectl(
            &lab,
            "operator",
            &[
                "-n", "shop", "patch", "secret", "made", "--type", kind, "-p", patch, "-o", "yaml",
            ],
        )?;
        ensure!(said.code == 0 && clean(&said), "{kind}: {said:?}");
    }
    let masked = kubectl(
        &lab,
        "operator",
        &["-n", "shop", "get", "secret", "made", "-o", "json"],
    )?;
    let said = lab.exec(
        "operator",
        &["kubectl", "-n", "shop", "replace", "-f", "-"],
        &masked.out,
    )?;
    ensure!(said.code != 0 && said.has("masked value"), "{said:?}");
    let recorded = lab.store(
        "SELECT count() FROM weir.fact WHERE target = 'cluster' AND positionCaseInsensitive(\
         concat(statement, parameters, response_masked), 'canary-7f3a') > 0",
    )?;
    ensure!(
        recorded.trim() == "0",
        "the record holds a secret: {recorded}"
    );
    Ok(())
}

#[test]
fn a_delete_waits_for_a_reviewer() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let waiting = lab.started(
        "operator",
        &[
            "kubectl",
            "-n",
            "shop",
            "delete",
            "pod",
            "web-1",
            "--wait=false",
        ],
    )?;
    let id = lab.held("pods/web-1")?;
    ensure!(
        !reached(&lab)?
            .iter()
            .any(|request| request["method"] == "DELETE"),
        "it was sent before it was approved"
    );
    let approved = lab.weir(&["approvals", "approve", &id, "--justification", "ticket 7"])?;
    ensure!(approved.code == 0, "{approved:?}");
    let said = lab::finish(waiting)?;
    ensure!(said.code == 0 && said.has("deleted"), "{said:?}");
    Ok(())
}

#[test]
fn what_was_done_is_recorded_with_who_and_what() -> Result<()> {
    let lab = Lab::current()?;
    let said = kubectl(
        &lab,
        "analyst",
        &["-n", "shop", "get", "secret", "db-credentials"],
    )?;
    ensure!(said.code == 0, "{said:?}");
    let row = until("the request in the store", Duration::from_secs(20), || {
        let row = lab.store(
            "SELECT workload, decision, rule, arrayStringConcat(effects, ','), \
             arrayStringConcat(objects, ','), comm FROM weir.fact WHERE target = 'cluster' \
             AND kind = 'request' AND statement LIKE 'get secrets/db-credentials%' LIMIT 1",
        )?;
        Ok((!row.trim().is_empty()).then_some(row))
    })?;
    for part in [
        "analyst",
        "allow",
        "read-shop-workloads",
        "get,readSecret",
        "Object:cluster/shop/secrets/db-credentials",
        "kubectl",
    ] {
        ensure!(row.contains(part), "{part} is not in {row}");
    }
    let masked = lab.store(
        "SELECT max(masked_values) FROM weir.fact WHERE target = 'cluster' AND kind = 'reply'",
    )?;
    ensure!(masked.trim() != "0", "no masked value was counted");
    Ok(())
}

/// Sends raw bytes over TLS and prints all that comes back.
const RAW: &str = "
import socket, ssl, sys
host, port = 'SERVER'.removeprefix('https://').rsplit(':', 1)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
stream = context.wrap_socket(socket.create_connection((host, int(port)), 10))
stream.settimeout(2)
stream.sendall(b'BYTES')
try:
    while chunk := stream.recv(65536):
        sys.stdout.buffer.write(chunk)
except (TimeoutError, ConnectionError, ssl.SSLError) as error:
    print('ended:', error)
";

fn raw(lab: &Lab, bytes: &str) -> Result<Said> {
    let server = lab.name("LAB_CLUSTER_SERVER")?;
    let script = RAW.replace("SERVER", &server).replace("BYTES", bytes);
    lab.python("analyst", &script)
}

#[test]
fn requests_cannot_be_smuggled_and_broken_ones_are_answered_clearly() -> Result<()> {
    let lab = Lab::current()?;
    let hidden = r"GET /api/v1/secrets HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n";
    let length = hidden.replace(r"\r\n", "  ").len();
    let head = r"GET /api/v1/namespaces HTTP/1.1\r\nHost: k\r\n";
    for bytes in [
        // Two lengths; a body where none may be; a chunked body behind which the next one starts.
        format!(
            r"{head}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(r"{head}Content-Length: {length}\r\n\r\n{hidden}"),
        format!(r"{head}Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!(r"{head}Transfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!(r"{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!(r"{head}X: y\n\n{hidden}"),
        format!(r"GET /api/v1/namespaces\r\n\r\n{hidden}"),
        r"GET http://other/api/v1/secrets HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n"
            .to_owned(),
        format!(r"{head}Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n"),
        format!(r"{head}X: {}\r\n\r\n", "a".repeat(100_000)),
        format!(r"{head}{}\r\n", r"X: y\r\n".repeat(500)),
    ] {
        let before = reached(&lab)?.len();
        let said = raw(&lab, &bytes)?;
        ensure!(clean(&said), "{bytes}: {said:?}");
        for request in &reached(&lab)?[before..] {
            let path = request["path"].as_str().unwrap_or_default();
            ensure!(!path.contains("secrets"), "{bytes}: {request}");
        }
    }
    Ok(())
}

#[test]
fn a_killed_flow_ends_a_watch() -> Result<()> {
    let lab = Lab::current()?;
    let watch = ["kubectl", "-n", "shop", "get", "configmaps", "-w"];
    let watching = lab.started("operator", &watch)?;
    let session = until("the watch's flow", Duration::from_secs(20), || {
        let flows = lab.weir_json(&["flows"])?;
        let ours = |flow: &&Value| flow["workload"] == "operator" && flow["target"] == "cluster";
        let watches = reached(&lab)?.iter().any(|request| {
            let path = request["path"].as_str().unwrap_or_default();
            path.contains("configmaps") && path.contains("watch=true")
        });
        let found = flows.as_array().into_iter().flatten().find(ours);
        Ok(found
            .filter(|_| watches)
            .and_then(|flow| flow["session"].as_str())
            .map(str::to_owned))
    })?;
    let killed = lab.weir(&["flows", "--kill", &session])?;
    ensure!(killed.code == 0, "{killed:?}");
    until("the flow to be gone", Duration::from_secs(10), || {
        let flows = lab.weir_json(&["flows"])?;
        let there = flows
            .as_array()
            .into_iter()
            .flatten()
            .any(|flow| flow["session"] == session.as_str());
        Ok((!there).then_some(()))
    })?;
    let said = lab::finish(watching)?;
    ensure!(clean(&said), "{said:?}");
    Ok(())
}

#[test]
fn statuses_are_true_for_the_client_and_in_the_record() -> Result<()> {
    let lab = Lab::current()?;
    let server = lab.name("LAB_CLUSTER_SERVER")?;
    let url = format!("{server}/api/v1/namespaces/shop/pods/web-0");
    let said = lab.exec("analyst", &["curl", "-sk", "-I", &url], "")?;
    // The test server's own answer, which has no body that could be masked.
    ensure!(said.has(" 405"), "HEAD: {said:?}");
    let twice = format!("{server}/api/v1/namespaces/shop//pods");
    let as_is = ["curl", "-sk", "-i", "--path-as-is", &twice];
    let said = lab.exec("analyst", &as_is, "")?;
    ensure!(said.has(" 400") && said.has("BadRequest"), "{said:?}");
    let said = kubectl(
        &lab,
        "analyst",
        &["-n", "shop", "get", "pod", "nobody-here"],
    )?;
    ensure!(said.code != 0 && said.has("NotFound"), "{said:?}");
    until("the reply in the store", Duration::from_secs(20), || {
        let found = lab.store(
            "SELECT count() FROM weir.fact WHERE target = 'cluster' AND kind = 'reply' \
             AND status = '404'",
        )?;
        Ok((found.trim() != "0").then_some(()))
    })
}
