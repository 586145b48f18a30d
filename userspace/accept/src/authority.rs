//! Weir's certificate authority: one root per cluster (or laptop), a name-constrained
//! intermediate per node, leaves per target. PEM in, PEM out; files are the enforcer's.
//!
//! The root's key stays with the broker's side and is used only to sign intermediates. An
//! intermediate can sign nothing but its targets' names and addresses (RFC 5280, 4.2.1.10), so
//! that a stolen node key is of no use against anything else.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use time::{Duration, OffsetDateTime};
use weir_model::fault::{Fault, FaultKind};

const ROOT_DAYS: i64 = 3650;
const INTERMEDIATE_DAYS: i64 = 365;
const LEAF_DAYS: i64 = 90;

/// A certificate (or chain) and its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// What an intermediate may sign for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    /// Address and prefix length.
    pub nets: Vec<(IpAddr, u8)>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("an intermediate needs at least one name or network to be constrained to")]
    Unconstrained,
    #[error("the time {0} is out of range")]
    Time(i64),
}

impl Fault for AuthorityError {
    fn kind(&self) -> FaultKind {
        FaultKind::Internal
    }
}

fn validity(params: &mut CertificateParams, now_s: i64, days: i64) -> Result<(), AuthorityError> {
    let now =
        OffsetDateTime::from_unix_timestamp(now_s).map_err(|_| AuthorityError::Time(now_s))?;
    // An hour back, since clocks of clients differ.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(days);
    Ok(())
}

/// A new root. `cluster` goes into its common name.
///
/// # Errors
/// [`AuthorityError`] when keys or certificates cannot be made.
pub fn new_root(cluster: &str, now_s: i64) -> Result<Pair, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Weir root CA ({cluster})"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now_s, ROOT_DAYS)?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// An intermediate for one node, constrained to `names`.
///
/// # Errors
/// [`AuthorityError::Unconstrained`] when `names` is empty.
pub fn new_intermediate(
    root: &Pair,
    node: &str,
    names: &Names,
    now_s: i64,
) -> Result<Pair, AuthorityError> {
    if names.dns.is_empty() && names.nets.is_empty() {
        return Err(AuthorityError::Unconstrained);
    }
    let issuer =
        Issuer::from_ca_cert_pem(&root.certificate_pem, KeyPair::from_pem(&root.key_pem)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Weir node CA ({node})"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params.name_constraints = Some(constraints(names));
    validity(&mut params, now_s, INTERMEDIATE_DAYS)?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Pair {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

/// A type of name without a permitted subtree would be unconstrained: exclude all of it.
fn constraints(names: &Names) -> NameConstraints {
    let mut permitted_subtrees = Vec::new();
    let mut excluded_subtrees = Vec::new();
    for name in &names.dns {
        permitted_subtrees.push(GeneralSubtree::DnsName(name.clone()));
    }
    for (addr, prefix) in &names.nets {
        let net = CidrSubnet::from_addr_prefix(*addr, *prefix);
        permitted_subtrees.push(GeneralSubtree::IpAddress(net));
    }
    if names.dns.is_empty() {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    if !names.nets.iter().any(|(addr, _)| addr.is_ipv4()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])));
    }
    if !names.nets.iter().any(|(addr, _)| addr.is_ipv6()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])));
    }
    NameConstraints {
        permitted_subtrees,
        excluded_subtrees,
    }
}

/// A leaf for one target; the chain is leaf then intermediate.
///
/// # Errors
/// [`AuthorityError`] when a name is not a valid DNS name or keys cannot be made.
pub fn new_leaf(
    intermediate: &Pair,
    dns: &[String],
    addrs: &[IpAddr],
    now_s: i64,
) -> Result<Pair, AuthorityError> {
    let issuer = Issuer::from_ca_cert_pem(
        &intermediate.certificate_pem,
        KeyPair::from_pem(&intermediate.key_pem)?,
    )?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(dns.to_vec())?;
    params
        .subject_alt_names
        .extend(addrs.iter().map(|addr| SanType::IpAddress(*addr)));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Weir");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now_s, LEAF_DAYS)?;
    let leaf = params.signed_by(&key, &issuer)?;
    let chain = format!("{}{}", leaf.pem(), intermediate.certificate_pem);
    Ok(Pair {
        certificate_pem: chain,
        key_pem: key.serialize_pem(),
    })
}
