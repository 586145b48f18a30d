//! `Table` answers: what `kubectl get` prints.

use serde_json::{Value, json};

use crate::resource::Resource;

type Column = (&'static str, u8);

/// What each row carries besides its cells.
#[derive(Clone, Copy)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Object,
}

/// One table of `objects`, with the list's `metadata`.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Value],
    include: Include,
    metadata: &Value,
) -> Value {
    let columns: Vec<Value> = columns(resource)
        .iter()
        .map(|(name, priority)| {
            json!({
                "name": name, "type": "string", "priority": priority, "description": name,
                "format": if *name == "Name" { "name" } else { "" },
            })
        })
        .collect();
    let rows: Vec<Value> = objects.iter().map(|o| row(resource, o, include)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows,
    })
}

fn row(resource: &Resource, object: &Value, include: Include) -> Value {
    let cells: Vec<Value> = columns(resource)
        .iter()
        .map(|(name, _)| Value::String(cell(name, object)))
        .collect();
    let mut row = json!({ "cells": cells });
    match include {
        Include::Nothing => {}
        Include::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
        Include::Object => row["object"] = object.clone(),
    }
    row
}

fn columns(resource: &Resource) -> &'static [Column] {
    match resource.kind {
        "Pod" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Status", 0),
            ("Restarts", 0),
            ("Age", 0),
            ("IP", 1),
            ("Node", 1),
        ],
        "Deployment" => &[
            ("Name", 0),
            ("Ready", 0),
            ("Up-to-date", 0),
            ("Available", 0),
            ("Age", 0),
            ("Images", 1),
        ],
        "Service" => &[
            ("Name", 0),
            ("Type", 0),
            ("Cluster-IP", 0),
            ("Port(s)", 0),
            ("Age", 0),
        ],
        "Secret" => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        "ConfigMap" => &[("Name", 0), ("Data", 0), ("Age", 0)],
        "Namespace" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        "Node" => &[("Name", 0), ("Status", 0), ("Age", 0), ("Version", 0)],
        "Event" => &[
            ("Last Seen", 0),
            ("Type", 0),
            ("Reason", 0),
            ("Object", 0),
            ("Message", 0),
        ],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn cell(column: &str, object: &Value) -> String {
    let at = |path: &str| text(object.pointer(path).unwrap_or(&Value::Null));
    let number = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    match column {
        "Name" => at("/metadata/name"),
        "Age" => age(&at("/metadata/creationTimestamp")),
        "Ready" if object["kind"] == "Deployment" => {
            format!(
                "{}/{}",
                number("/status/readyReplicas"),
                number("/spec/replicas")
            )
        }
        "Ready" => "1/1".to_owned(),
        "Up-to-date" => number("/status/updatedReplicas").to_string(),
        "Available" => number("/status/availableReplicas").to_string(),
        "Status" if object["kind"] == "Node" => "Ready".to_owned(),
        "Status" => at("/status/phase"),
        "Restarts" => "0".to_owned(),
        "IP" => at("/status/podIP"),
        "Node" => at("/spec/nodeName"),
        "Images" => at("/spec/template/spec/containers/0/image"),
        "Type" if object["kind"] == "Service" => at("/spec/type"),
        "Type" => at("/type"),
        "Cluster-IP" => at("/spec/clusterIP"),
        "Port(s)" => format!("{}/TCP", at("/spec/ports/0/port")),
        "Data" => object["data"]
            .as_object()
            .map_or(0, serde_json::Map::len)
            .to_string(),
        "Version" => at("/status/nodeInfo/kubeletVersion"),
        "Last Seen" => age(&at("/lastTimestamp")),
        "Reason" => at("/reason"),
        "Object" => format!(
            "{}/{}",
            at("/involvedObject/kind").to_lowercase(),
            at("/involvedObject/name")
        ),
        "Message" => at("/message"),
        _ => "<none>".to_owned(),
    }
}

fn age(stamp: &str) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let Ok(then) = time::PrimitiveDateTime::parse(stamp, &format) else {
        return "<unknown>".to_owned();
    };
    let seconds = (time::OffsetDateTime::now_utc() - then.assume_utc()).whole_seconds();
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
