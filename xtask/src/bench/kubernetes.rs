//! `bench kubernetes`: small requests, a masked list, and a command's output.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::PairArgs;
use super::pair::{self, TIMED, Workload};
use crate::lab::{self, Lab};

/// Secrets of the list that is masked.
const SECRETS: u32 = 200;
/// Of a command's output.
const MIB: u32 = 64;

pub(super) fn run(args: &PairArgs) -> Result<ExitCode> {
    pair::run("kubernetes", args, workloads)
}

fn workloads(lab: &Lab) -> Result<Vec<Workload>> {
    let cluster = &lab.cluster;
    let token = fs::read_to_string(&cluster.token_file).context("the cluster's token")?;
    let token = token.trim();
    let server = &cluster.server;
    // Straight to the server, as somebody who has its token.
    let direct_curl = format!("c=(curl -sk -H 'authorization: Bearer {token}')\n");
    let kubeconfig = lab.state_dir.join("bench_kubeconfig");
    let direct_kubectl = format!(
        "k=(kubectl --kubeconfig {} --server {server} --token {token} --certificate-authority {})\n",
        kubeconfig.display(),
        cluster.ca_file.display()
    );
    fs::write(&kubeconfig, "apiVersion: v1\nkind: Config\n").context("a kubeconfig")?;
    let mut manifest = String::new();
    for number in 0..SECRETS {
        manifest += &format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: bench-{number}, namespace: shop}}\n\
             stringData: {{user: app, password: value-{number}}}\n---\n"
        );
    }
    let file = lab.state_dir.join("bench_secrets.yaml");
    fs::write(&file, manifest).context("secrets")?;
    let create = format!("{direct_kubectl}\"${{k[@]}}\" create -f {}", file.display());
    lab::direct(lab, &create).context("making secrets")?;
    let both = |name, work, unit, script: &str| Workload {
        name,
        work,
        unit,
        direct: format!("{TIMED}{direct_curl}{direct_kubectl}s={server}\n{script}"),
        governed: format!("{TIMED}c=(curl -sk)\nk=(kubectl)\ns={server}\n{script}"),
    };
    let requests = |path: &str, count: u32, version: &str| {
        format!(
            "\"${{c[@]}}\" --{version} -o /dev/null -w '%{{time_total}}\\n' \
             \"$s/api/v1/namespaces/shop/{path}?timeoutSeconds=[1-{count}]\""
        )
    };
    Ok(vec![
        both(
            "get a pod, HTTP/2",
            1.0,
            "requests",
            &requests("pods/web-0", 500, "http2"),
        ),
        both(
            "get a pod, HTTP/1.1",
            1.0,
            "requests",
            &requests("pods/web-0", 500, "http1.1"),
        ),
        both(
            "list 200 secrets, masked",
            1.0,
            "requests",
            &requests("secrets", 50, "http2"),
        ),
        both(
            "output of exec",
            f64::from(MIB),
            "MiB",
            &format!("timed \"${{k[@]}}\" -n shop exec web-0 -- head -c {MIB}M /dev/zero"),
        ),
    ])
}
