//! JSON patch (RFC 6902), merge patch (RFC 7396), strategic merge patch, and server-side apply, which is
//! treated as a strategic merge without owners of fields.

use serde_json::{Map, Value};

use crate::reply::Failure;

/// How deep a patch may nest.
const DEPTH: usize = 64;
/// Operations of one JSON patch.
const MAX_OPERATIONS: usize = 1000;

/// The object after `patch` of the content type `kind`; 415 for an unknown one.
pub(crate) fn apply(kind: &str, object: &Value, patch: &Value) -> Result<Value, Failure> {
    let mut new = object.clone();
    match kind {
        "application/json-patch+json" => operations(&mut new, patch)?,
        "application/merge-patch+json" => merge(&mut new, patch, false, DEPTH)?,
        "application/strategic-merge-patch+json" | "application/apply-patch+yaml" => {
            merge(&mut new, patch, true, DEPTH)?;
        }
        other => {
            let message = format!("the body of the request was in an unknown format: {other}");
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
    }
    if new.is_object() {
        Ok(new)
    } else {
        Err(Failure::bad("the patch leaves no object"))
    }
}

fn merge(target: &mut Value, patch: &Value, strategic: bool, depth: usize) -> Result<(), Failure> {
    let Some(left) = depth.checked_sub(1) else {
        return Err(Failure::bad("the patch nests too deeply"));
    };
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if strategic && fields.get("$patch").is_some_and(|p| p == "replace") || !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in fields {
        if strategic && name.starts_with('$') {
            directive(target, name, value);
            continue;
        }
        if value.is_null() {
            if let Some(map) = target.as_object_mut() {
                map.remove(name);
            }
            continue;
        }
        let gone = strategic && value.get("$patch").is_some_and(|p| p == "delete");
        if gone {
            if let Some(map) = target.as_object_mut() {
                map.remove(name);
            }
            continue;
        }
        let slot = &mut target[name.as_str()];
        match (strategic, value) {
            (true, Value::Array(items)) => list(slot, items, left)?,
            _ => merge(slot, value, strategic, left)?,
        }
    }
    Ok(())
}

fn directive(target: &mut Value, name: &str, value: &Value) {
    let Some(field) = name.strip_prefix("$deleteFromPrimitiveList/") else {
        return;
    };
    let gone = value.as_array().cloned().unwrap_or_default();
    if let Some(list) = target.get_mut(field).and_then(Value::as_array_mut) {
        list.retain(|v| !gone.contains(v));
    }
}

/// Lists of objects are merged by the first of these that every item of the patch has.
const KEYS: [&str; 7] = [
    "name",
    "containerPort",
    "port",
    "mountPath",
    "type",
    "uid",
    "ip",
];

fn list(target: &mut Value, items: &[Value], depth: usize) -> Result<(), Failure> {
    let key = KEYS
        .iter()
        .find(|k| !items.is_empty() && items.iter().all(|i| i.get(**k).is_some()));
    let Some(key) = key else {
        *target = Value::Array(items.to_vec());
        return Ok(());
    };
    let mut all = target.as_array().cloned().unwrap_or_default();
    for item in items {
        let place = all.iter().position(|old| old.get(*key) == item.get(*key));
        if item.get("$patch").is_some_and(|p| p == "delete") {
            all.retain(|old| old.get(*key) != item.get(*key));
        } else if let Some(old) = place.and_then(|p| all.get_mut(p)) {
            merge(old, item, true, depth)?;
        } else {
            all.push(item.clone());
        }
    }
    *target = Value::Array(all);
    Ok(())
}

fn operations(object: &mut Value, patch: &Value) -> Result<(), Failure> {
    let list = patch
        .as_array()
        .filter(|l| l.len() <= MAX_OPERATIONS)
        .ok_or_else(|| Failure::bad("a JSON patch is a list of at most 1000 operations"))?;
    list.iter().try_for_each(|one| operation(object, one))
}

fn operation(object: &mut Value, one: &Value) -> Result<(), Failure> {
    let text = |name: &str| one.get(name).and_then(Value::as_str);
    let need =
        |name: &str| text(name).ok_or_else(|| Failure::bad(format!("operation without {name}")));
    let path = need("path")?;
    let value = || {
        one.get("value")
            .cloned()
            .ok_or_else(|| Failure::bad("operation without value"))
    };
    match need("op")? {
        "add" => add(object, path, value()?),
        "remove" => remove(object, path).map(|_| ()),
        "replace" => {
            let value = value()?;
            *object.pointer_mut(path).ok_or_else(|| nowhere(path))? = value;
            Ok(())
        }
        "test" if object.pointer(path) == Some(&value()?) => Ok(()),
        "test" => Err(invalid(format!("testing value {path} failed"))),
        "copy" => {
            let from = need("from")?;
            let found = object.pointer(from).cloned().ok_or_else(|| nowhere(from))?;
            add(object, path, found)
        }
        "move" => {
            let found = remove(object, need("from")?)?;
            add(object, path, found)
        }
        other => Err(Failure::bad(format!("unknown operation {other}"))),
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(422, "Invalid", message)
}

fn nowhere(path: &str) -> Failure {
    invalid(format!(
        "the server rejected our request: no such path {path}"
    ))
}

fn split(path: &str) -> Result<(&str, String), Failure> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| nowhere(path))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(object: &mut Value, path: &str, value: Value) -> Result<(), Failure> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.insert(last, value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let at = if last == "-" {
                Some(list.len())
            } else {
                last.parse().ok()
            };
            let at = at
                .filter(|at| *at <= list.len())
                .ok_or_else(|| nowhere(path))?;
            list.insert(at, value);
            Ok(())
        }
        _ => Err(nowhere(path)),
    }
}

fn remove(object: &mut Value, path: &str) -> Result<Value, Failure> {
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&last),
        Some(Value::Array(list)) => {
            let at = last.parse().ok().filter(|at: &usize| *at < list.len());
            at.map(|at| list.remove(at))
        }
        _ => None,
    }
    .ok_or_else(|| nowhere(path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_patch() {
        let object = json!({ "a": [1, 2], "b/c": 1 });
        let patch = json!([
            { "op": "add", "path": "/a/-", "value": 3 }, { "op": "remove", "path": "/b~1c" },
            { "op": "move", "from": "/a/0", "path": "/d" }, { "op": "test", "path": "/d", "value": 1 },
        ]);
        let new = apply("application/json-patch+json", &object, &patch).unwrap();
        assert_eq!(new, json!({ "a": [2, 3], "d": 1 }));
        for hostile in [
            json!([{ "op": "add", "path": "/a/9", "value": 1 }]),
            json!([{ "op": "remove", "path": "" }]),
            json!([{ "op": "replace", "path": "", "value": 1 }]),
            json!([{ "op": "test", "path": "/d", "value": 2 }]),
            json!({}),
        ] {
            apply("application/json-patch+json", &object, &hostile).unwrap_err();
        }
    }

    #[test]
    fn strategic_merges_lists_by_name() {
        let object = json!({ "l": [{ "name": "a", "v": 1 }, { "name": "b" }] });
        let patch = json!({ "l": [{ "name": "a", "w": 2 }, { "name": "b", "$patch": "delete" }] });
        let new = apply("application/strategic-merge-patch+json", &object, &patch).unwrap();
        assert_eq!(new, json!({ "l": [{ "name": "a", "v": 1, "w": 2 }] }));
        let new = apply("application/merge-patch+json", &object, &patch).unwrap();
        assert_eq!(new["l"][0], json!({ "name": "a", "w": 2 }));
    }
}
