//! Whether a service-account token is the attested pod's own.
//!
//! A workload chooses every byte that it can write, so a token that was found near it proves
//! nothing by being there: a pod can plant another pod's stolen token in its own file. What the
//! kernel and the API server say of the pod is compared with the token before it is sent anywhere.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use crate::federated::AssertionProblem;
use crate::keys::{KeySet, KeySetRefusal};
use crate::secret::Secret;

/// What is known of the workload from kernel and API server. Made by whoever attests; nothing in it
/// may come from the workload.
#[derive(Clone, Debug)]
pub struct Attested {
    pub namespace: String,
    pub service_account: String,
    /// Absent where the workload is not one pod.
    pub pod_uid: Option<String>,
    /// Name of this node in the cluster.
    pub node: Option<String>,
    pub cluster: Option<Arc<ClusterKeys>>,
}

/// The cluster's issuer, and the keys by which its tokens are verified on the node.
pub struct ClusterKeys {
    issuer: String,
    keys: KeySet,
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClusterKeys({})", self.issuer)
    }
}

impl ClusterKeys {
    /// `jwks` as the API server publishes it at `/openid/v1/jwks`.
    ///
    /// # Errors
    /// The set cannot be trusted.
    pub fn parse(issuer: &str, jwks: &[u8]) -> Result<Self, KeySetRefusal> {
        Ok(Self {
            issuer: issuer.to_owned(),
            keys: KeySet::parse(jwks)?,
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Named,
    pod: Option<Bound>,
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Bound {
    uid: String,
}

impl Attested {
    /// Signature (where the cluster's keys are known), issuer, subject, pod and node.
    ///
    /// # Errors
    /// The first that differs.
    pub fn check(&self, assertion: &Secret) -> Result<(), AssertionProblem> {
        let token = assertion.expose();
        let mut parts = token.split('.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AssertionProblem::Malformed);
        };
        if let Some(cluster) = &self.cluster {
            let signed = token
                .get(..head.len() + 1 + payload.len())
                .unwrap_or_default();
            cluster.verify(head, signed, signature)?;
        }
        let claims: Claims = decoded(payload)?;
        if let Some(cluster) = &self.cluster
            && claims.iss != cluster.issuer
        {
            return Err(AssertionProblem::Issuer);
        }
        let subject = format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.service_account
        );
        if claims.sub != subject {
            return Err(AssertionProblem::Subject);
        }
        let Some(bound) = claims.kubernetes else {
            // A token without these claims is bound to nothing: it may come from anywhere.
            return Err(AssertionProblem::Pod);
        };
        if bound.namespace != self.namespace || bound.serviceaccount.name != self.service_account {
            return Err(AssertionProblem::Subject);
        }
        if let Some(uid) = &self.pod_uid
            && bound.pod.is_none_or(|pod| pod.uid != *uid)
        {
            return Err(AssertionProblem::Pod);
        }
        if let Some(node) = &self.node
            && bound.node.is_some_and(|have| have.name != *node)
        {
            return Err(AssertionProblem::Node);
        }
        Ok(())
    }
}

impl ClusterKeys {
    fn verify(&self, head: &str, signed: &str, signature: &str) -> Result<(), AssertionProblem> {
        let header: Header = decoded(head)?;
        if header.alg != "RS256" {
            return Err(AssertionProblem::Signature);
        }
        let key = self
            .keys
            .get(&header.kid)
            .ok_or(AssertionProblem::Signature)?;
        let holds = jsonwebtoken::crypto::verify(
            signature,
            signed.as_bytes(),
            key.decoding(),
            Algorithm::RS256,
        );
        if holds.unwrap_or(false) {
            Ok(())
        } else {
            Err(AssertionProblem::Signature)
        }
    }
}

fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, AssertionProblem> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| AssertionProblem::Malformed)?;
    // A derived struct would also take a JSON array, member by position.
    if bytes.first() != Some(&b'{') {
        return Err(AssertionProblem::Malformed);
    }
    serde_json::from_slice(&bytes).map_err(|_| AssertionProblem::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attested() -> Attested {
        Attested {
            namespace: "agents".to_owned(),
            service_account: "analyst".to_owned(),
            pod_uid: Some("uid-1".to_owned()),
            node: Some("n1".to_owned()),
            cluster: None,
        }
    }

    fn token(sub: &str, ns: &str, sa: &str, pod: &str, node: &str) -> Secret {
        let claims = serde_json::json!({
            "iss": "https://cluster", "sub": sub,
            "kubernetes.io": {
                "namespace": ns, "serviceaccount": {"name": sa}, "pod": {"uid": pod},
                "node": {"name": node},
            },
        });
        Secret::new(format!(
            "e30.{}.c2ln",
            URL_SAFE_NO_PAD.encode(claims.to_string())
        ))
    }

    const ANALYST: &str = "system:serviceaccount:agents:analyst";

    #[test]
    fn the_pods_own_token_passes() {
        let own = token(ANALYST, "agents", "analyst", "uid-1", "n1");
        assert_eq!(attested().check(&own), Ok(()));
    }

    #[test]
    fn a_planted_token_of_another_pod_is_refused() {
        let same_account = token(ANALYST, "agents", "analyst", "uid-2", "n1");
        assert_eq!(attested().check(&same_account), Err(AssertionProblem::Pod));
        let other = "system:serviceaccount:agents:operator";
        let other = token(other, "agents", "operator", "uid-2", "n1");
        assert_eq!(attested().check(&other), Err(AssertionProblem::Subject));
        let elsewhere = token(ANALYST, "agents", "analyst", "uid-1", "n2");
        assert_eq!(attested().check(&elsewhere), Err(AssertionProblem::Node));
        let torn = token(ANALYST, "agents", "operator", "uid-1", "n1");
        assert_eq!(attested().check(&torn), Err(AssertionProblem::Subject));
    }

    #[test]
    fn a_token_bound_to_nothing_is_refused() {
        let claims = serde_json::json!({"iss": "i", "sub": ANALYST}).to_string();
        let unbound = Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(attested().check(&unbound), Err(AssertionProblem::Pod));
        for text in ["", "a.b", "a.b.c.d", "e30.W10.c2ln"] {
            let broken = attested().check(&Secret::new(text));
            assert_eq!(broken, Err(AssertionProblem::Malformed), "{text}");
        }
    }
}
