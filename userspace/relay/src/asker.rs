//! For whom a question about policy is answered: a workload as this node saw it last.

use std::sync::Arc;

use weir_decide::{Bound, PolicySet, TargetRef};
use weir_postgres::catalog::Catalog;

use crate::node::Node;
use crate::protocol::Protocol;

/// A workload at a target, under the policies in force now.
pub struct Asker {
    pub bound: Bound,
    pub policies: Arc<PolicySet>,
    pub target: TargetRef,
    pub protocol: Protocol,
    /// As whom the server is signed in to; empty where that is a token or not known.
    pub user: String,
    /// Databases whose catalogs were read for that user, by name.
    pub catalogs: Vec<(Arc<str>, Arc<Catalog>)>,
}

/// Why there is nobody to answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAsker {
    NoSuchTarget,
    /// No flow of the workload was identified since this process started.
    NeverSeen,
}

impl Node {
    /// The newest principal of a workload, bound to a target.
    ///
    /// # Errors
    /// There is no such target, or nobody of that workload was seen.
    pub async fn asker(&self, workload: &str, target: &str) -> Result<Asker, NoAsker> {
        let target = self.targets.by_name(target).ok_or(NoAsker::NoSuchTarget)?;
        let subject = self
            .registry
            .seen_last(workload)
            .ok_or(NoAsker::NeverSeen)?;
        let policies = Arc::clone(&self.policies.borrow());
        let login = target.credentials.of(&subject.principal);
        let user = login.map(|login| login.user).unwrap_or_default();
        Ok(Asker {
            bound: subject.bind(&policies, target),
            policies,
            target: target.reference(),
            protocol: target.protocol,
            catalogs: self.catalogs.known(&target.name, &user).await,
            user,
        })
    }
}
