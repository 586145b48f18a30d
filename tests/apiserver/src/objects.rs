//! The verbs on objects: get, list, create, update, patch, delete.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::patch;
use crate::reply::{Failure, Reply, json_reply};
use crate::resource::{Resource, Target};
use crate::selector::Selector;
use crate::server::{Query, Server};
use crate::store::{Key, Mode, key};
use crate::table::{Include, table};

/// The form of an answer.
#[derive(Clone, Copy)]
pub(crate) enum View {
    Plain,
    Table(Include),
}

impl View {
    /// What `Accept` asks for; 406 where it allows no JSON.
    pub(crate) fn negotiate(accept: &str, query: &Query) -> Result<View, Failure> {
        if accept.trim().is_empty() {
            return Ok(View::Plain);
        }
        for one in accept.split(',').map(str::trim) {
            let mut parts = one.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            if !matches!(
                kind,
                "application/json" | "*/*" | "application/*" | "application/yaml"
            ) {
                continue;
            }
            let parts: Vec<&str> = parts.collect();
            if parts.contains(&"as=Table") && parts.contains(&"v=v1") {
                return Ok(View::Table(match query.text("includeObject") {
                    "None" => Include::Nothing,
                    "Object" => Include::Object,
                    _ => Include::Metadata,
                }));
            }
            if !parts.iter().any(|p| p.starts_with("as=")) {
                return Ok(View::Plain);
            }
        }
        Err(Failure::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        ))
    }

    /// One object in this form.
    pub(crate) fn one(self, resource: &Resource, object: &Value) -> Value {
        match self {
            View::Plain => object.clone(),
            View::Table(include) => {
                let meta = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                table(resource, std::slice::from_ref(object), include, &meta)
            }
        }
    }
}

/// One request about objects.
pub(crate) struct Work<'a> {
    pub(crate) server: &'a Server,
    pub(crate) target: &'a Target,
    pub(crate) query: &'a Query,
    pub(crate) view: View,
    pub(crate) dry: bool,
}

impl Work<'_> {
    fn mode(&self) -> Mode {
        if self.dry { Mode::Dry } else { Mode::Real }
    }

    fn key(&self, name: &str) -> Key {
        key(self.target.resource, self.namespace(), name)
    }

    fn namespace(&self) -> &str {
        self.target.namespace.as_deref().unwrap_or_default()
    }

    fn name(&self) -> Result<&str, Failure> {
        self.target
            .name
            .as_deref()
            .ok_or_else(|| Failure::bad("a name is needed"))
    }

    fn answer(&self, code: u16, object: &Value) -> Reply {
        json_reply(code, &self.view.one(self.target.resource, object))
    }

    pub(crate) fn get(&self) -> Result<Reply, Failure> {
        let name = self.name()?;
        let found = self.server.store.get(&self.key(name));
        let missing =
            || Failure::missing(format_args!("{} \"{name}\"", self.target.resource.full()));
        Ok(self.answer(200, &found.ok_or_else(missing)?))
    }

    pub(crate) fn list(&self, selector: &Selector) -> Result<Reply, Failure> {
        let resource = self.target.resource;
        let (version, all) = self
            .server
            .store
            .list(resource, self.target.namespace.as_deref());
        let mut fitting: Vec<Value> = all.into_iter().filter(|o| selector.fits(o)).collect();
        let mut meta = json!({ "resourceVersion": version.to_string() });
        let token = self.query.text("continue");
        if !token.is_empty() {
            let after = STANDARD
                .decode(token)
                .map_err(|_| Failure::bad("invalid continue token"))?;
            fitting.retain(|o| place(o).as_bytes() > after.as_slice());
        }
        if let Some(limit) = self.query.number("limit").filter(|l| *l > 0) {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let rest = fitting.len().saturating_sub(limit);
            fitting.truncate(limit);
            if let Some(last) = fitting.last().filter(|_| rest > 0) {
                meta["continue"] = json!(STANDARD.encode(place(last)));
                meta["remainingItemCount"] = json!(rest);
            }
        }
        let body = match self.view {
            View::Table(include) => table(resource, &fitting, include, &meta),
            View::Plain => json!({
                "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
                "metadata": meta, "items": fitting,
            }),
        };
        Ok(json_reply(200, &body))
    }

    pub(crate) fn create(&self, body: &[u8]) -> Result<Reply, Failure> {
        let resource = self.target.resource;
        let mut object = self.object(body)?;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            let prefix = meta["generateName"].as_str();
            let prefix = prefix.ok_or_else(|| Failure::bad("name or generateName is required"))?;
            meta["name"] = json!(format!("{prefix}{:05x}", self.server.next()));
        }
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        valid(&name)?;
        if resource.namespaced {
            let namespace = self.namespace();
            if namespace.is_empty() {
                return Err(Failure::bad(
                    "an empty namespace may not be set during creation",
                ));
            }
            meta["namespace"] = json!(namespace);
        }
        complete(resource, &mut object);
        let made = self
            .server
            .store
            .create(self.key(&name), object, self.mode())?;
        Ok(self.answer(201, &made))
    }

    pub(crate) fn update(&self, body: &[u8]) -> Result<Reply, Failure> {
        let mut object = self.object(body)?;
        complete(self.target.resource, &mut object);
        let made = self
            .server
            .store
            .update(self.key(self.name()?), self.mode(), |_| Ok(object))?;
        Ok(self.answer(200, &made))
    }

    pub(crate) fn patch(&self, kind: &str, body: &[u8]) -> Result<Reply, Failure> {
        let patch = json(body)?;
        let resource = self.target.resource;
        let name = self.name()?;
        let key = self.key(name);
        if kind == "application/apply-patch+yaml" && self.server.store.get(&key).is_none() {
            let made = self.create(body)?;
            return Ok(made);
        }
        let change = |old: &Value| {
            let mut new = patch::apply(kind, old, &patch)?;
            complete(resource, &mut new);
            Ok(new)
        };
        let made = self.server.store.update(key, self.mode(), change)?;
        Ok(self.answer(200, &made))
    }

    pub(crate) fn delete(&self) -> Result<Reply, Failure> {
        let name = self.name()?;
        let gone = self.server.store.delete(&self.key(name), self.mode())?;
        Ok(json_reply(
            200,
            &json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": {
                    "name": name, "kind": self.target.resource.plural,
                    "group": self.target.resource.group, "uid": gone["metadata"]["uid"],
                },
            }),
        ))
    }

    pub(crate) fn delete_all(&self, selector: &Selector) -> Result<Reply, Failure> {
        let reply = self.list(selector)?;
        let (_, all) = self
            .server
            .store
            .list(self.target.resource, self.target.namespace.as_deref());
        for object in all.iter().filter(|o| selector.fits(o)) {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let key = key(self.target.resource, text("namespace"), text("name"));
            self.server.store.delete(&key, self.mode())?;
        }
        Ok(reply)
    }

    fn object(&self, body: &[u8]) -> Result<Value, Failure> {
        let mut object = json(body)?;
        let resource = self.target.resource;
        if !object.is_object() {
            return Err(Failure::bad("the body is no object"));
        }
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let kind = object["kind"].as_str().unwrap_or(resource.kind);
        if kind != resource.kind && self.target.sub.is_none() {
            return Err(Failure::bad(format!(
                "the body is a {kind}, not a {}",
                resource.kind
            )));
        }
        object["kind"] = json!(resource.kind);
        object["apiVersion"] = json!(resource.api_version());
        Ok(object)
    }
}

/// What the server adds to an object: `stringData` moves into `data`, a pod runs at once.
fn complete(resource: &Resource, object: &mut Value) {
    if resource.kind == "Secret"
        && let Some(Value::Object(plain)) =
            object.as_object_mut().and_then(|o| o.remove("stringData"))
    {
        if !object["data"].is_object() {
            object["data"] = json!({});
        }
        for (name, value) in plain {
            object["data"][name] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    if resource.kind == "Secret" && object["type"].is_null() {
        object["type"] = json!("Opaque");
    }
    if matches!(resource.kind, "Pod" | "Namespace") && !object["status"].is_object() {
        let phase = if resource.kind == "Pod" {
            "Running"
        } else {
            "Active"
        };
        object["status"] = json!({ "phase": phase });
    }
}

pub(crate) fn json(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::bad(format!("the body is no JSON: {e}")))
}

fn valid(name: &str) -> Result<(), Failure> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(fine) {
        let message = format!("metadata.name: Invalid value: {name:?}");
        return Err(Failure::new(422, "Invalid", message));
    }
    Ok(())
}

fn place(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}\0{}", text("namespace"), text("name"))
}
