//! Service accounts, and whom they say that their pods sign in as.
//!
//! Source: the annotations of Azure Workload Identity. Whoever may write them chooses the
//! application; that it takes this service account's tokens is Entra's to check.

use serde_json::Value;

const CLIENT_ID: &str = "azure.workload.identity/client-id";
const TENANT_ID: &str = "azure.workload.identity/tenant-id";

/// What Weir needs to know of a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
    /// As annotated; no more than text.
    pub client_id: Option<String>,
    pub tenant: Option<String>,
}

impl ServiceAccount {
    /// `None` when the object is none.
    #[must_use]
    pub fn read(object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let text = |name: &str| metadata.get(name)?.as_str().map(ToOwned::to_owned);
        let annotation = |name: &str| {
            let value = metadata.get("annotations")?.get(name)?.as_str()?;
            Some(value.to_ascii_lowercase())
        };
        Some(Self {
            namespace: text("namespace")?,
            name: text("name")?,
            client_id: annotation(CLIENT_ID),
            tenant: annotation(TENANT_ID),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn annotations_name_the_application() {
        let mut object = json!({ "metadata": { "namespace": "agents", "name": "analyst" } });
        let plain = ServiceAccount::read(&object).unwrap();
        assert_eq!((plain.client_id, plain.tenant), (None, None));
        object["metadata"]["annotations"] = json!({ CLIENT_ID: "A9", TENANT_ID: "7e" });
        let annotated = ServiceAccount::read(&object).unwrap();
        assert_eq!(annotated.client_id.as_deref(), Some("a9"));
        assert_eq!(annotated.tenant.as_deref(), Some("7e"));
        assert!(ServiceAccount::read(&json!({ "metadata": {} })).is_none());
    }
}
