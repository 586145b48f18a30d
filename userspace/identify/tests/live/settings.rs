//! The tenant, from the environment.

use std::sync::Arc;

use weir_identify::{ClientCertificate, Identify, IdentityConfig, Method, WorkloadIdentity};

/// # Panics
/// Without the variable: these tests never pass unrun.
pub(crate) fn need(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        Ok(_) | Err(_) => panic!("{name} is not set: run cargo xtask test --tier live"),
    }
}

pub(crate) fn identify() -> Identify {
    identify_with(|_| {})
}

pub(crate) fn identify_with(change: impl FnOnce(&mut IdentityConfig)) -> Identify {
    assert_eq!(need("ENTRA_LIVE"), "1");
    let mut config = IdentityConfig {
        authority: std::env::var("ENTRA_LIVE_AUTHORITY").unwrap_or_else(|_| "public".to_owned()),
        allow_plain_loopback: false,
        tenants: vec![need("ENTRA_LIVE_TENANT")],
        audience: need("ENTRA_LIVE_AUDIENCE"),
        required_role: "Agent.Connect".to_owned(),
        reviewer_client_id: None,
        reviewer_scope: "Agent.Run".to_owned(),
        clock_skew_s: 60,
        remint_s: weir_identify::REMINT_S_DEFAULT,
        metadata: None,
        graph: None,
    };
    change(&mut config);
    Identify::new(config).unwrap()
}

pub(crate) fn workload(method: Method) -> WorkloadIdentity {
    WorkloadIdentity {
        name: "live".to_owned(),
        tenant: need("ENTRA_LIVE_TENANT"),
        client_id: need("ENTRA_LIVE_CLIENT_ID"),
        method,
        attested: None,
        cgroup: None,
    }
}

pub(crate) fn certificate() -> Method {
    let path = need("ENTRA_LIVE_CERTIFICATE_FILE");
    let pem = std::fs::read_to_string(path).unwrap();
    Method::Certificate(Arc::new(ClientCertificate::parse(&pem, false).unwrap()))
}
