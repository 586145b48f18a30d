//! Chosen pods sign in as what the API server says of them, whatever token lies near them.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_e2e::cluster::{Api, pod_cgroup, psql_in};
use weir_e2e::dns::Dns;
use weir_e2e::lab::{Lab, Said};
use weir_e2e::until;

const SEEN_WITHIN: Duration = Duration::from_secs(20);
const AUDIENCE: &str = "api://AzureADTokenExchange";

struct Scene {
    lab: Lab,
    api: Api,
    netns: String,
    _dns: Dns,
}

/// A pod of the API, with the cgroup that its kubelet would have made.
struct Pod {
    name: String,
    uid: String,
    cgroup: PathBuf,
}

/// The namespace is one workload's, so each test has its own.
fn scene(netns: &str) -> Result<Scene> {
    let lab = Lab::current()?;
    let host: IpAddr = lab.name("LAB_HOST_V4")?.parse().context("an address")?;
    let dns = Dns::start(SocketAddr::new(host, 5399)).context("the test's DNS")?;
    let database = lab.name("LAB_DB_V4")?.parse().context("an address")?;
    dns.set("db.test", &[database]);
    let api = Api::new(&lab)?;
    // One of the tests made it already, maybe.
    let _there = api.send(
        "POST",
        "/api/v1/namespaces",
        &json!({
            "kind": "Namespace", "apiVersion": "v1", "metadata": { "name": "agents" },
        }),
    );
    Ok(Scene {
        netns: lab.name(netns)?,
        api,
        lab,
        _dns: dns,
    })
}

impl Scene {
    fn account(&self, name: &str, client: Option<&str>) -> Result<()> {
        // Null takes away what another test wrote.
        let client = client.map(|client| self.lab.name(client)).transpose()?;
        let annotations = json!({ "azure.workload.identity/client-id": client });
        let path = "/api/v1/namespaces/agents/serviceaccounts";
        let object = json!({
            "kind": "ServiceAccount", "apiVersion": "v1",
            "metadata": { "name": name, "annotations": annotations },
        });
        if self.api.send("POST", path, &object).is_err() {
            let patch = json!({ "metadata": { "annotations": annotations } });
            self.api.send("PATCH", &format!("{path}/{name}"), &patch)?;
        }
        Ok(())
    }

    fn pod(&self, name: &str, account: &str, way: &str) -> Result<Pod> {
        let there = format!("/api/v1/namespaces/agents/pods/{name}");
        // Of a run before this one, maybe.
        let _gone = self.api.send("DELETE", &there, &Value::Null);
        let made = self.api.send(
            "POST",
            "/api/v1/namespaces/agents/pods",
            &json!({
                "kind": "Pod", "apiVersion": "v1",
                "metadata": { "name": name, "labels": { "token": way } },
                "spec": {
                    "nodeName": "node-1", "serviceAccountName": account,
                    "containers": [{ "name": "main", "image": "x" }],
                    "volumes": [{ "name": "azure", "projected": { "sources": [
                        { "serviceAccountToken": { "audience": AUDIENCE, "path": "token" } },
                    ] } }],
                },
            }),
        )?;
        let uid = made["metadata"]["uid"]
            .as_str()
            .context("a uid")?
            .to_owned();
        Ok(Pod {
            name: name.to_owned(),
            cgroup: pod_cgroup(&self.lab, &uid)?,
            uid,
        })
    }

    /// As the API server would give it.
    fn token(&self, pod: &Pod, account: &str) -> Result<String> {
        let request = json!({
            "namespace": "agents", "serviceaccount": account,
            "pod": { "name": pod.name, "uid": pod.uid },
        });
        let answer = self.lab.entra("/k8s/token", &request)?;
        Ok(answer["token"].as_str().context("a token")?.to_owned())
    }

    /// As the kubelet writes it.
    fn project(&self, pod: &Pod, token: &str) -> Result<()> {
        let folder = Path::new(&self.lab.name("LAB_STATE_DIR")?)
            .join("kubelet/pods")
            .join(&pod.uid)
            .join("volumes/kubernetes.io~projected/azure");
        fs::create_dir_all(folder.join("..2026")).context("a volume")?;
        fs::write(folder.join("..2026/token"), token).context("a token")?;
        symlink("..2026", folder.join("..data")).context("a link")?;
        symlink("..data/token", folder.join("token")).context("a link")
    }

    fn psql(&self, pod: &Pod) -> Result<Said> {
        psql_in(&self.lab, &pod.cgroup, &self.netns)
    }

    fn comes(&self, what: &str, pod: &Pod, good: fn(&Said) -> bool) -> Result<()> {
        let mut last = None;
        let found = until(what, SEEN_WITHIN, || {
            let said = self.psql(pod)?;
            let good = good(&said);
            last = Some(said);
            Ok(good.then_some(()))
        });
        found.with_context(|| format!("{last:?}"))
    }

    /// How many flows of the workload were refused for that.
    fn refused_for(&self, workload: &str, code: &str) -> Result<()> {
        let sql = format!(
            "SELECT count() > 0 FROM weir.fact WHERE workload = '{workload}' AND status = '{code}'"
        );
        until(code, SEEN_WITHIN, || {
            Ok((self.lab.store(&sql)?.trim() == "1").then_some(()))
        })
    }

    fn gone(&self, pod: &Pod) -> Result<()> {
        let path = format!("/api/v1/namespaces/agents/pods/{}", pod.name);
        self.api.send("DELETE", &path, &Value::Null)?;
        fs::remove_dir(&pod.cgroup).with_context(|| pod.cgroup.display().to_string())
    }
}

fn served(said: &Said) -> bool {
    said.code == 0 && said.out.contains('2')
}

fn unattested(said: &Said) -> bool {
    said.has("not known to the cluster's API")
}

fn not_signed_in(said: &Said) -> bool {
    said.has("could not be signed in")
}

#[test]
fn the_kubelets_copy_and_the_annotation_sign_a_pod_in() -> Result<()> {
    let scene = scene("LAB_SERVICE_NETNS")?;
    scene.account("analyst", None)?;
    let pod = scene.pod("kubelet-0", "analyst", "kubelet")?;
    scene.project(&pod, &scene.token(&pod, "analyst")?)?;
    scene.comes("nobody annotated it", &pod, unattested)?;
    scene.account("analyst", Some("LAB_ANALYST_CLIENT_ID"))?;
    scene.comes("as its service account says", &pod, served)?;

    // Another application's client id: Entra does not take this service account for it.
    scene.account("other", Some("LAB_OPERATOR_CLIENT_ID"))?;
    let other = scene.pod("kubelet-1", "other", "kubelet")?;
    scene.project(&other, &scene.token(&other, "other")?)?;
    scene.comes("a borrowed client id", &other, not_signed_in)?;

    // In the kubelet's own directory another pod's token would be refused, too.
    let third = scene.pod("kubelet-2", "analyst", "kubelet")?;
    scene.project(&third, &scene.token(&pod, "analyst")?)?;
    scene.comes("another pod's token", &third, not_signed_in)?;
    scene.refused_for("pods-kubelet", "assertion_pod")?;
    for pod in [&pod, &other, &third] {
        scene.gone(pod)?;
    }
    Ok(())
}

#[test]
fn a_planted_token_of_another_pod_signs_nobody_in() -> Result<()> {
    let scene = scene("LAB_MACHINE_NETNS")?;
    scene.account("analyst", Some("LAB_ANALYST_CLIENT_ID"))?;
    let victim = scene.pod("inside-0", "analyst", "inside")?;
    let thief = scene.pod("inside-1", "analyst", "inside")?;
    let folder = PathBuf::from(scene.lab.name("LAB_STATE_DIR")?).join("inside");
    fs::create_dir_all(&folder).context("a folder")?;
    // Both run in this host's root, where the workload's path is: whoever connects finds it.
    fs::write(folder.join("token"), scene.token(&victim, "analyst")?).context("a token")?;
    scene.comes("its own token", &victim, served)?;
    scene.comes("the victim's token", &thief, not_signed_in)?;
    scene.refused_for("pods-inside", "assertion_pod")?;
    // Its own, signed by somebody else than the cluster.
    let last = scene.pod("inside-2", "analyst", "inside")?;
    let token = scene.token(&last, "analyst")?;
    let forged = token.rsplit_once('.').context("a JWT")?.0.to_owned() + ".c2ln";
    fs::write(folder.join("token"), forged).context("a token")?;
    scene.comes("a forged token", &last, not_signed_in)?;
    scene.refused_for("pods-inside", "assertion_forged")?;
    for pod in [&victim, &thief, &last] {
        scene.gone(pod)?;
    }
    Ok(())
}

#[test]
fn a_token_is_asked_for_by_the_pods_own_name_and_uid() -> Result<()> {
    let scene = scene("LAB_AGENT_NETNS")?;
    scene.account("analyst", Some("LAB_ANALYST_CLIENT_ID"))?;
    let pod = scene.pod("asked-0", "analyst", "asked")?;
    scene.comes("the API server's token", &pod, served)?;
    let sql = format!(
        "SELECT count() > 0 FROM weir.fact WHERE workload = 'pods-asked' AND pod = '{}'",
        pod.uid
    );
    until("the pod in the record", SEEN_WITHIN, || {
        Ok((scene.lab.store(&sql)?.trim() == "1").then_some(()))
    })?;
    scene.gone(&pod)
}
