//! Containers of this node, as a runtime lists them.
//!
//! Source: Docker Engine API 1.41, `GET /containers/json`, which Podman answers as well.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::selection::{Selects, has_labels, read_labels};

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 64;
/// Containers of one list that are looked at; those that run come first.
pub(crate) const CONTAINERS_MAX: usize = 1024;

/// What Weir needs to know of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the slash in front.
    pub names: Vec<String>,
    /// As it was asked for, such as `registry.example/agent:1`.
    pub image: String,
    /// `sha256:…`, by content.
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    /// Has processes, or will have some in a moment.
    live: bool,
}

/// What makes a container a workload's: all that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSelector {
    /// Of one runtime only.
    pub runtime: Option<String>,
    pub name: Option<String>,
    /// The reference or the id by content.
    pub image: Option<String>,
    pub labels: BTreeMap<String, String>,
}

impl Selects<(&str, &Container)> for ContainerSelector {
    fn fits(&self, (runtime, container): &(&str, &Container)) -> bool {
        let own = self.runtime.as_ref();
        let name = self.name.as_ref();
        let image = self.image.as_ref();
        own.is_none_or(|own| own == runtime)
            && name.is_none_or(|name| container.names.contains(name))
            && image.is_none_or(|image| [&container.image, &container.image_id].contains(&image))
            && has_labels(&container.labels, &self.labels)
    }
}

impl Container {
    /// `None` for an entry that lacks what every container has.
    #[must_use]
    fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name)?.as_str().map(ToOwned::to_owned);
        let id = text("Id").filter(|id| is_id(id))?;
        let names = entry.get("Names").and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        Some(Self {
            id,
            // One with a second slash is a name that another container has for it.
            names: names
                .map(|name| name.strip_prefix('/').unwrap_or(name))
                .filter(|name| !name.contains('/'))
                .map(ToOwned::to_owned)
                .collect(),
            image: text("Image")?,
            image_id: text("ImageID").unwrap_or_default(),
            labels: read_labels(entry.get("Labels"))?,
            live: !matches!(text("State")?.as_str(), "exited" | "dead" | "removing"),
        })
    }

    /// Those of a list. What cannot be understood is left out, so that its protected connects stay
    /// refused.
    ///
    /// # Errors
    /// The answer is no list at all.
    pub(crate) fn read_list(body: &[u8]) -> Result<Vec<Self>, &'static str> {
        let list: Value = serde_json::from_slice(body).map_err(|_| "the list is not JSON")?;
        let entries = list.as_array().ok_or("the answer is no list")?;
        let mut containers = Vec::with_capacity(entries.len().min(CONTAINERS_MAX));
        for entry in entries {
            match Self::read(entry) {
                Some(container) => containers.push(container),
                None => tracing::error!(
                    "a container cannot be understood: its protected connects are refused"
                ),
            }
        }
        if containers.len() > CONTAINERS_MAX {
            // One that has ended is started again under the same id, so it counts while there is room.
            containers.sort_by_key(|container| !container.live);
            tracing::error!(
                containers = containers.len(),
                "more than {CONTAINERS_MAX} containers: the rest does not count"
            );
            containers.truncate(CONTAINERS_MAX);
        }
        Ok(containers)
    }
}

fn is_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_DIGITS && text.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::selection::{Choice, LABELS_MAX, Rules};

    fn id(digit: char) -> String {
        digit.to_string().repeat(ID_DIGITS)
    }

    /// As Docker 20.10 says it.
    fn entry() -> Value {
        json!({
            "Id": id('a'), "Names": ["/agent-1", "/web/db"], "Image": "agent:1",
            "ImageID": "sha256:00", "Labels": { "app": "agent" }, "State": "created",
            "HostConfig": { "NetworkMode": "none" },
        })
    }

    fn list(entries: &[Value]) -> Vec<Container> {
        Container::read_list(json!(entries).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_container_is_read_with_its_own_names() {
        let containers = list(&[entry()]);
        let one = containers.first().unwrap();
        assert_eq!(one.id, id('a'));
        assert_eq!(one.names, ["agent-1"]);
        assert!(one.live);
        // Podman has no labels at times.
        let mut without = entry();
        without["Labels"] = Value::Null;
        assert!(list(&[without])[0].labels.is_empty());
    }

    #[test]
    fn everything_that_a_selector_names_has_to_fit() {
        let container = &list(&[entry()])[0];
        let selector = |runtime: Option<&str>, name: Option<&str>, image: Option<&str>, label| {
            let text = |text: Option<&str>| text.map(ToOwned::to_owned);
            let label: Option<(&str, &str)> = label;
            ContainerSelector {
                runtime: text(runtime),
                name: text(name),
                image: text(image),
                labels: label
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            }
        };
        for (one, fits) in [
            (selector(None, Some("agent-1"), None, None), true),
            (selector(None, Some("agent"), None, None), false),
            (selector(None, Some("db"), None, None), false),
            (selector(None, None, Some("agent:1"), None), true),
            (selector(None, None, Some("sha256:00"), None), true),
            (selector(None, None, Some("agent"), None), false),
            (selector(None, None, None, Some(("app", "agent"))), true),
            (selector(None, None, None, Some(("app", ""))), false),
            (selector(Some("docker"), Some("agent-1"), None, None), true),
            (selector(Some("podman"), Some("agent-1"), None, None), false),
            (
                selector(None, Some("agent-1"), Some("agent:2"), None),
                false,
            ),
        ] {
            assert_eq!(one.fits(&("docker", container)), fits, "{one:?}");
        }
        let mut rules = Rules::default();
        assert_eq!(rules.choose(&("docker", container)), Choice::Exempt);
        let own = selector(None, Some("agent-1"), None, None);
        rules.workloads.push(("a".to_owned(), own));
        let chosen = Choice::Workload("a".to_owned());
        assert_eq!(rules.choose(&("docker", container)), chosen);
    }

    #[test]
    fn an_entry_that_is_no_container_is_left_out_and_another_answer_is_an_error() {
        for (field, value) in [
            ("Id", json!("abc")),
            ("Id", json!(id('A'))),
            ("Id", json!("../".repeat(32))),
            ("Image", json!(7)),
            ("Labels", json!({ "app": 1 })),
            ("Labels", json!(["app"])),
            ("State", Value::Null),
        ] {
            let mut broken = entry();
            broken[field] = value;
            let mut other = entry();
            other["Id"] = json!(id('b'));
            let read = list(&[broken, other]);
            assert_eq!(read.len(), 1, "{field}");
            assert_eq!(read[0].id, id('b'));
        }
        let mut many = entry();
        for number in 0..=LABELS_MAX {
            many["Labels"][format!("l{number}")] = json!("");
        }
        assert!(list(&[many]).is_empty());
        for body in ["", "{}", r#"{"message":"no"}"#, "[1"] {
            assert!(Container::read_list(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn of_too_many_those_that_run_count() {
        let mut entries = Vec::new();
        for number in 0..CONTAINERS_MAX + 8 {
            let mut one = entry();
            one["Id"] = json!(format!("{number:064x}"));
            one["State"] = json!(if number < 16 { "exited" } else { "running" });
            entries.push(one);
        }
        let read = list(&entries);
        assert_eq!(read.len(), CONTAINERS_MAX);
        let ended = read.iter().filter(|container| !container.live).count();
        assert_eq!(ended, 8);
    }
}
