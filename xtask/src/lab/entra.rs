//! The test Entra of a lab, and the service-account tokens of its agents.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::agents;
use super::daemon::{self, Plan};
use super::model::{Entra, Lab};
use super::secret::write_private;
use crate::{http, place, run, setup};

/// Far beyond a lab's life: nothing has to refresh the files.
const TOKEN_LIFE_S: u64 = 30 * 24 * 3600;

/// Starts the test Entra and mints the agents' tokens.
pub(crate) fn start(lab: &mut Lab) -> Result<()> {
    let folder = place::root().join("tests/entra");
    let config = folder.join("lab.json");
    let log = lab.log("entra");
    let process = daemon::start(&Plan {
        command: vec![
            setup::node_binary().display().to_string(),
            folder.join("server.mjs").display().to_string(),
            "--port".to_owned(),
            "0".to_owned(),
            "--config".to_owned(),
            config.display().to_string(),
        ],
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &log,
        folder,
    })?;
    lab.processes.insert("entra".to_owned(), process.clone());
    lab.save()?;
    let ready = process.wait_ready(0)?;
    let ready: Value = serde_json::from_str(ready.trim_start_matches("READY"))
        .with_context(|| format!("the test Entra said {ready}"))?;
    let origin = text(&ready, "/origin")?;
    let directory = fs::read_to_string(&config).context("reading the test Entra's config")?;
    let directory: Value = serde_json::from_str(&directory).context("tests/entra/lab.json")?;
    learn(lab, &directory, origin)?;
    lab.save()?;
    mint(lab)?;
    others(lab)
}

/// What the agents need that do not sign in by a token file.
fn others(lab: &Lab) -> Result<()> {
    let entra = lab.entra.as_ref().context("the test Entra was started")?;
    let secrets = lab.secrets();
    let (key, certificate) = (secrets.join("service.key"), secrets.join("service.crt"));
    run::quiet(
        Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
            ])
            .args(["-subj", "/CN=service"])
            .args(["-keyout".as_ref(), key.as_os_str()])
            .args(["-out".as_ref(), certificate.as_os_str()]),
    )?;
    let public = fs::read_to_string(&certificate).context("the service's certificate")?;
    let private = fs::read_to_string(&key).context("the service's key")?;
    let both = format!("{public}{private}");
    write_private(&secrets.join("service.pem"), both.as_bytes())?;
    let body = json!({ "app": "service", "certificate": public });
    http::post(&entra.origin, "/control/certificate", &body)?;
    let node = get(entra, "/control/node-credential")?;
    let node: Value = serde_json::from_str(&node).context("the node's credential")?;
    write_private(
        &secrets.join("node-credential"),
        text(&node, "/token")?.as_bytes(),
    )?;
    let keys = get(entra, "/k8s/openid/v1/jwks")?;
    fs::write(secrets.join("cluster-keys.json"), keys).context("the cluster's keys")?;
    let reporter = fs::read_to_string(secrets.join("reporter-password")).context("its password")?;
    let kept = json!({ "path": "secret/data/reporter", "value": reporter });
    let vault = http::post(&entra.origin, "/control/vault", &kept)?;
    write_private(
        &secrets.join("vault-token"),
        text(&vault, "/token")?.as_bytes(),
    )?;
    secret(entra, "graph-reader", &secrets.join("graph-secret"))?;
    secret(entra, "batch", &secrets.join("batch-secret"))
}

/// A client secret of that application, in a file.
fn secret(entra: &Entra, app: &str, file: &Path) -> Result<()> {
    let answer = http::post(&entra.origin, "/control/secret", &json!({ "app": app }))?;
    write_private(file, text(&answer, "/secret")?.as_bytes())
}

fn get(entra: &Entra, path: &str) -> Result<String> {
    let (status, body) = http::get(&entra.origin, path)?;
    anyhow::ensure!(status == 200, "GET {path} answered {status}");
    Ok(body)
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("the test Entra names no {pointer}"))
}

fn learn(lab: &mut Lab, directory: &Value, origin: String) -> Result<()> {
    let tenant = directory
        .pointer("/tenants/0")
        .context("a tenant in tests/entra/lab.json")?;
    let groups = tenant
        .get("groups")
        .and_then(Value::as_object)
        .context("groups")?;
    lab.entra = Some(Entra {
        origin,
        tenant: text(tenant, "/tid")?,
        audience: text(tenant, "/apis/0/client_id")?,
        required_role: text(tenant, "/apps/0/roles/0")?,
        reviewer_client_id: text(tenant, "/public_clients/0/client_id")?,
        reviewer_scope: text(tenant, "/apis/0/scopes/0")?,
        groups: groups
            .iter()
            .filter_map(|(name, id)| Some((name.clone(), id.as_str()?.to_owned())))
            .collect(),
    });
    let tenants = directory.get("tenants").and_then(Value::as_array);
    let apps: Vec<&Value> = tenants
        .context("tenants")?
        .iter()
        .filter_map(|tenant| tenant.get("apps")?.as_array())
        .flatten()
        .collect();
    for (name, agent) in &mut lab.agents {
        // A person's agent has no application of its own; the first tenant's come first.
        let app = apps
            .iter()
            .find(|app| app.get("name").and_then(Value::as_str) == Some(name));
        if let Some(app) = app {
            agent.client_id = text(app, "/client_id")?;
        }
    }
    Ok(())
}

fn mint(lab: &Lab) -> Result<()> {
    let entra = lab.entra.as_ref().context("the test Entra was started")?;
    for (name, agent) in &lab.agents {
        if agent.client_id.is_empty() {
            continue;
        }
        let request = json!({
            "namespace": "agents",
            "serviceaccount": name,
            "pod": { "name": format!("{name}-0") },
            "node": "lab-node",
            "expirationSeconds": TOKEN_LIFE_S,
        });
        let answer = http::post(&entra.origin, "/k8s/token", &request)?;
        let token = text(&answer, "/token")?;
        write_private(&agent.token_file, token.as_bytes())?;
    }
    Ok(())
}

/// Approves a device code as a user of the directory.
pub(crate) fn approve_device(lab: &Lab, user_code: &str, user: &str) -> Result<()> {
    let entra = lab.entra.as_ref().context("this lab has no test Entra")?;
    let body = json!({ "user_code": user_code, "user": user, "approve": true });
    http::post(&entra.origin, "/control/device", &body).map(drop)
}
