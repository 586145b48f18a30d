//! How each workload signs in: files read and checked while that is still allowed.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use weir_identify::{
    Account, AssertionSource, Attested, Authority, ClientCertificate, ClusterKeys, GraphConfig,
    Identify, IdentityConfig, Method, Secret, TokenRequests, WorkloadIdentity,
};
use weir_relay::WorkloadBinding;

use super::pods::{Means, PodBook, PodTokens, SigningPods};
use super::prepare;
use crate::config::{Config, How, Members, Request, SignIn, TokenSource, Workload};

/// Also used by `weir token verify`.
pub(crate) fn identify(config: &Config) -> Result<Identify> {
    identify_with(config, graph(config)?)
}

/// Who asks Graph. Reads secrets: before privileges are dropped.
pub(super) fn graph(config: &Config) -> Result<Option<GraphConfig>> {
    let Some(graph) = &config.identity.graph else {
        return Ok(None);
    };
    let sign_in = SignIn {
        tenant: graph.tenant.clone(),
        client_id: Some(graph.client_id.clone()),
        how: graph.how.clone(),
        service_account: None,
    };
    Ok(Some(GraphConfig {
        origin: graph.origin.clone(),
        reader: one(config, "identity.graph", &sign_in, None)?,
        token_lists_part: graph.token_lists_part,
    }))
}

pub(super) fn identify_with(config: &Config, graph: Option<GraphConfig>) -> Result<Identify> {
    let identity = IdentityConfig {
        authority: config.identity.authority.clone(),
        allow_plain_loopback: config.identity.allow_plain_loopback,
        tenants: config.identity.tenants.clone(),
        audience: config.identity.audience.clone(),
        required_role: config.identity.required_role.clone(),
        reviewer_client_id: config.identity.reviewer_client_id.clone(),
        reviewer_scope: config.identity.reviewer_scope.clone(),
        clock_skew_s: config.identity.clock_skew_s,
        remint_s: config.identity.remint_s,
        metadata: config.identity.metadata.clone(),
        graph,
    };
    Identify::new(identity).map_err(|problems| anyhow::anyhow!("identity: {problems}"))
}

/// All workloads, by name. Reads secrets: before privileges are dropped.
pub(crate) fn read(
    config: &Config,
    book: &Arc<PodBook>,
) -> Result<HashMap<Arc<str>, WorkloadBinding>> {
    let cluster = match &config.identity.cluster {
        None => None,
        Some(cluster) => {
            let path = &cluster.keys_file;
            let keys =
                std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            let keys = ClusterKeys::parse(&cluster.issuer, &keys)
                .with_context(|| format!("identity.cluster.keys_file {}", path.display()))?;
            Some(Arc::new(keys))
        }
    };
    let mut bindings = HashMap::new();
    for workload in &config.workloads {
        let of_pods = matches!(workload.members, Members::Pods(_)) && workload.sign_in.is_of_pods();
        let binding = if of_pods {
            pods(config, workload, cluster.as_ref(), book)
                .map(|pods| WorkloadBinding::Pods(Arc::new(pods)))
        } else {
            one(config, &workload.name, &workload.sign_in, cluster.as_ref())
                .map(|one| WorkloadBinding::Whole(Arc::new(one)))
        };
        let binding = binding.with_context(|| format!("identity of workload {}", workload.name))?;
        bindings.insert(Arc::clone(&workload.name), binding);
    }
    Ok(bindings)
}

fn one(
    config: &Config,
    name: &str,
    sign_in: &SignIn,
    cluster: Option<&Arc<ClusterKeys>>,
) -> Result<WorkloadIdentity> {
    let method = match &sign_in.how {
        How::Federated(token) => Method::Federated(source(config, sign_in, token)?),
        How::AgentId { blueprint, token } => Method::AgentId {
            blueprint: blueprint.clone(),
            source: source(config, sign_in, token)?,
        },
        How::Certificate { file, rs256 } => {
            let pem = prepare::read_key(file)?;
            let certificate = ClientCertificate::parse(&pem, *rs256)
                .with_context(|| format!("{}", file.display()))?;
            Method::Certificate(Arc::new(certificate))
        }
        How::Secret { file } => {
            tracing::warn!(
                workload = name,
                "signs in with a shared secret: whoever reads it is this workload; prefer \
                 federation or a certificate"
            );
            Method::Secret(Secret::new(prepare::read_secret(file)?.as_str()))
        }
        How::Managed => Method::Managed,
        How::Person => Method::Person,
    };
    let attested = sign_in.service_account.as_ref().map(|account| Attested {
        namespace: account.namespace.clone(),
        service_account: account.name.clone(),
        pod_uid: account.pod_uid.clone(),
        node: config
            .identity
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.node.clone()),
        cluster: cluster.map(Arc::clone),
    });
    Ok(WorkloadIdentity {
        name: name.to_owned(),
        tenant: sign_in.tenant.clone(),
        client_id: sign_in.client_id.clone().unwrap_or_default(),
        method,
        attested,
        cgroup: None,
    })
}

/// The pods of a workload, each of which signs in for itself.
fn pods(
    config: &Config,
    workload: &Workload,
    cluster: Option<&Arc<ClusterKeys>>,
    book: &Arc<PodBook>,
) -> Result<SigningPods> {
    let sign_in = &workload.sign_in;
    let token = match sign_in.token() {
        Some(TokenSource::Kubelet) => PodTokens::Kubelet,
        Some(TokenSource::InContainer(_)) => PodTokens::InContainer,
        Some(TokenSource::Request(request)) => PodTokens::Requested(requests(config, request)?),
        Some(TokenSource::File(_)) | None => anyhow::bail!("its pods have no token of their own"),
    };
    let named = config.identity.cluster.as_ref();
    let node = named.and_then(|cluster| cluster.node.clone());
    let kubernetes = config.kubernetes.as_ref();
    Ok(SigningPods {
        book: Arc::clone(book),
        workload: workload.name.to_string(),
        tenant: sign_in.tenant.clone(),
        client_id: sign_in.client_id.clone(),
        means: Means {
            blueprint: match &sign_in.how {
                How::AgentId { blueprint, .. } => Some(blueprint.clone()),
                How::Federated(_)
                | How::Certificate { .. }
                | How::Secret { .. }
                | How::Managed
                | How::Person => None,
            },
            token,
        },
        audience: authority(config)?.exchange_audience.to_string(),
        node: node.or_else(|| kubernetes.map(|kubernetes| kubernetes.node.clone())),
        cluster: cluster.map(Arc::clone),
    })
}

fn authority(config: &Config) -> Result<Authority> {
    Authority::parse(
        &config.identity.authority,
        config.identity.allow_plain_loopback,
    )
    .map_err(|text| anyhow::anyhow!("identity.authority: {text}"))
}

fn requests(config: &Config, request: &Request) -> Result<Arc<TokenRequests>> {
    let ca = match &request.ca_file {
        Some(file) => Some(
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        ),
        None => None,
    };
    let audience = authority(config)?.exchange_audience;
    let requests = TokenRequests::new(&request.server, ca.as_deref(), &audience);
    let requests = requests.map_err(|text| anyhow::anyhow!("token_request: {text}"))?;
    Ok(Arc::new(requests))
}

fn source(config: &Config, sign_in: &SignIn, token: &TokenSource) -> Result<AssertionSource> {
    let TokenSource::Request(request) = token else {
        return Ok(AssertionSource::Handed);
    };
    let account = sign_in
        .service_account
        .as_ref()
        .context("a TokenRequest needs a service account")?;
    let pod = request.pod_name.clone().zip(account.pod_uid.clone());
    let asked = requests(config, request)?.of(&Account {
        namespace: account.namespace.clone(),
        name: account.name.clone(),
        pod,
    });
    let asked = asked.map_err(|text| anyhow::anyhow!("token_request: {text}"))?;
    Ok(AssertionSource::Requested(Arc::new(asked)))
}
