//! As much of OpenAPI v3 as lets kubectl leave the checking of fields to the server.

use serde_json::{Map, Value, json};

use crate::resource::{ALL, groups};

/// `/openapi/v3`.
pub(crate) fn index() -> Value {
    let mut paths = Map::new();
    let places = groups().into_iter().map(|g| format!("apis/{g}/v1"));
    for place in std::iter::once("api/v1".to_owned()).chain(places) {
        let url = json!({ "serverRelativeURL": format!("/openapi/v3/{place}?hash=1") });
        paths.insert(place, url);
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/{place}`.
pub(crate) fn document(place: &str) -> Option<Value> {
    let group = match place {
        "api/v1" => "",
        other => other.strip_prefix("apis/")?.strip_suffix("/v1")?,
    };
    let mut paths = Map::new();
    for r in ALL.iter().filter(|r| r.group == group) {
        let scope = if r.namespaced {
            "namespaces/{namespace}/"
        } else {
            ""
        };
        let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
            .iter()
            .map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } }))
            .collect();
        let patch = json!({
            "parameters": parameters,
            "requestBody": { "content": { "application/merge-patch+json": {} } },
            "responses": { "200": { "description": "OK" } },
            "x-kubernetes-group-version-kind": { "group": r.group, "version": "v1", "kind": r.kind },
        });
        paths.insert(
            format!("/{place}/{scope}{}/{{name}}", r.plural),
            json!({ "patch": patch }),
        );
    }
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0", "info": { "title": "Kubernetes", "version": "v1.32.4" },
            "paths": paths, "components": { "schemas": {} },
        })
    })
}
