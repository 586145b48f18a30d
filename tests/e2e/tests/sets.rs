//! Pods that a real watch finds, targets by DNS name and by Service, a listed workload: the whole
//! path, with clients as they are. The kubelet's cgroups are made by the test.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_e2e::cluster::{Api, pod_cgroup, psql_in};
use weir_e2e::dns::Dns;
use weir_e2e::lab::{Lab, Said};
use weir_e2e::{until, wire};

/// A name is asked for each second, a watch tells at once; the machine is shared.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

fn address(lab: &Lab, name: &str) -> Result<IpAddr> {
    lab.name(name)?.parse().context("an address")
}

/// The server asks for a password, which only Weir has: success means that Weir served.
fn served(said: &Said) -> bool {
    said.code == 0 && said.out.contains('2')
}

fn reached_directly(said: &Said) -> bool {
    said.has("no password supplied")
}

fn operator(lab: &Lab, host: &str) -> Result<Said> {
    lab.exec(
        "operator",
        &["psql", "-XAtqw", "-h", host, "-c", "select 1 + 1"],
        "",
    )
}

fn comes(what: &str, mut ask: impl FnMut() -> Result<Said>, good: fn(&Said) -> bool) -> Result<()> {
    let mut last = None;
    let found = until(what, SEEN_WITHIN, || {
        let said = ask()?;
        let good = good(&said);
        last = Some(said);
        Ok(good.then_some(()))
    });
    found.with_context(|| format!("{last:?}"))
}

#[test]
fn targets_are_found_by_name_and_by_service_and_lists_by_name() -> Result<()> {
    let lab = Lab::current()?;
    let host = address(&lab, "LAB_HOST_V4")?;
    let (v4, v6) = (address(&lab, "LAB_DB_V4")?, address(&lab, "LAB_DB_V6")?);
    let dns = Dns::start(SocketAddr::new(host, 5399)).context("the test's DNS")?;
    // What other tests of this lab said of the name is forgotten first.
    dns.set("db.test", &[host]);
    let ask = || operator(&lab, &v4.to_string());
    comes("not listed, not found", ask, |said| {
        !served(said) && !reached_directly(said)
    })?;

    dns.set("db.test", &[v4]);
    dns.set("allowed.test", &[host]);
    let ask = || operator(&lab, &v4.to_string());
    comes("db.test is found", ask, served)?;

    // The list, by name.
    let elsewhere = TcpListener::bind((host, 7001)).context("a server")?;
    let other = TcpListener::bind((host, 7002)).context("a server")?;
    let connect = |port: &str| lab.python("operator", &wire::connect(&host.to_string(), port));
    comes(
        "allowed.test is found",
        || connect("7001"),
        |said| said.out.trim() == "open",
    )?;
    let unlisted = connect("7002")?;
    ensure!(
        unlisted.out.trim() == "ConnectionRefusedError",
        "{unlisted:?}"
    );
    drop((elsewhere, other));

    // The name moves: its old address counts for a while.
    dns.set("db.test", &[host]);
    std::thread::sleep(Duration::from_secs(2));
    let still = operator(&lab, &v4.to_string())?;
    ensure!(served(&still), "the old address went at once: {still:?}");
    comes("the old address goes", ask, |said| said.has("refused"))?;
    dns.set("db.test", &[v4]);
    comes("db.test is back", ask, served)?;

    // The Service is at an address that no name has.
    let there = operator(&lab, &v6.to_string())?;
    ensure!(there.has("refused"), "before the Service: {there:?}");
    let port: u16 = lab.name("LAB_DB_PORT")?.parse().context("a port")?;
    let api = Api::new(&lab)?;
    api.send("POST", "/api/v1/namespaces/shop/services", &json!({
        "kind": "Service", "apiVersion": "v1", "metadata": { "name": "db" },
        "spec": { "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "ports": [{ "port": 5432 }] },
    }))?;
    api.send(
        "POST",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        &json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv6",
            "metadata": { "name": "db-1", "labels": { "kubernetes.io/service-name": "db" } },
            "endpoints": [{ "addresses": [v6] }], "ports": [{ "port": port, "protocol": "TCP" }],
        }),
    )?;
    let ask = || operator(&lab, &v6.to_string());
    comes("the Service is found", ask, served)?;
    api.send(
        "DELETE",
        "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/db-1",
        &Value::Null,
    )?;
    comes("the Service's address goes", ask, |said| {
        said.has("refused")
    })?;
    a_pod_is_what_the_api_says(&lab, &api)
}

/// In the same test, whose DNS server makes the database a target.
fn a_pod_is_what_the_api_says(lab: &Lab, api: &Api) -> Result<()> {
    let made = api.send(
        "POST",
        "/api/v1/namespaces/shop/pods",
        &json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": { "name": "agent-0", "labels": { "app": "other" } },
            "spec": { "nodeName": "node-1", "containers": [{ "name": "main", "image": "x" }] },
        }),
    )?;
    let uid = made["metadata"]["uid"].as_str().context("a uid")?;
    let unknown = "0f5b1a3c-1111-4222-8333-444455556666";
    let (cgroup, stranger) = (pod_cgroup(lab, uid)?, pod_cgroup(lab, unknown)?);
    let netns = lab.name("LAB_ANALYST_NETNS")?;
    let inside = |cgroup: &Path| psql_in(lab, cgroup, &netns);
    comes(
        "a pod of nobody is left alone",
        || inside(&cgroup),
        reached_directly,
    )?;
    let refused = inside(&stranger)?;
    ensure!(refused.has("refused"), "an unknown pod: {refused:?}");
    api.send(
        "PATCH",
        "/api/v1/namespaces/shop/pods/agent-0",
        &json!({
            "metadata": { "labels": { "app": "agent" } },
        }),
    )?;
    comes("the pod is an agent", || inside(&cgroup), served)?;
    api.send(
        "DELETE",
        "/api/v1/namespaces/shop/pods/agent-0",
        &Value::Null,
    )?;
    for cgroup in [cgroup, stranger] {
        fs::remove_dir(&cgroup).with_context(|| cgroup.display().to_string())?;
    }
    Ok(())
}
