//! Watches: changes as they happen, one JSON object per line.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::objects::View;
use crate::reply::{Reply, pieces};
use crate::resource::Target;
use crate::selector::Selector;
use crate::server::{Query, Server};

/// A watch ends after this many seconds when the client names no time.
const DEFAULT_SECONDS: u64 = 1800;

/// The stream of a watch.
pub(crate) struct Watch {
    pub(crate) target: Target,
    pub(crate) view: View,
    pub(crate) selector: Selector,
}

impl Watch {
    pub(crate) fn start(self, server: Arc<Server>, query: &Query) -> Reply {
        let (sender, receiver) = mpsc::channel(16);
        let seconds = query.number("timeoutSeconds").unwrap_or(DEFAULT_SECONDS);
        let limit = Duration::from_secs(seconds.min(DEFAULT_SECONDS));
        let from = query.number("resourceVersion").filter(|v| *v > 0);
        let bookmarks = query.flag("allowWatchBookmarks");
        tokio::spawn(async move {
            let ended = tokio::time::timeout(limit, self.run(&server, from, &sender)).await;
            if ended.is_err() && bookmarks {
                let (version, _) = server.store.list(self.target.resource, None);
                // The client may have left in this moment.
                let _left = sender.send(self.bookmark(version)).await;
            }
        });
        pieces("application/json", receiver)
    }

    async fn run(&self, server: &Server, from: Option<u64>, sender: &mpsc::Sender<Bytes>) {
        let mut changed = server.store.subscribe();
        let mut version = match from {
            Some(version) => version,
            None => {
                let (version, all) = server
                    .store
                    .list(self.target.resource, self.target.namespace.as_deref());
                for object in all.iter().filter(|o| self.fits(o)) {
                    if sender.send(self.event("ADDED", object)).await.is_err() {
                        return;
                    }
                }
                version
            }
        };
        loop {
            changed.mark_unchanged();
            let Some(changes) = server.store.since(version) else {
                let gone = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "reason": "Expired", "code": 410, "message": "too old resource version" });
                let _left = sender.send(line("ERROR", &gone)).await;
                return;
            };
            for change in changes {
                version = change.version;
                let resource = self.target.resource;
                let same = change.key.0 == resource.group && change.key.1 == resource.plural;
                let here = self
                    .target
                    .namespace
                    .as_ref()
                    .is_none_or(|n| *n == change.key.2);
                if same && here && self.fits(&change.object) {
                    let event = self.event(change.kind, &change.object);
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                end = changed.changed() => if end.is_err() { return },
                () = sender.closed() => return,
            }
        }
    }

    fn fits(&self, object: &Value) -> bool {
        let named = self.target.name.as_ref();
        named.is_none_or(|n| object["metadata"]["name"] == n.as_str()) && self.selector.fits(object)
    }

    fn event(&self, kind: &str, object: &Value) -> Bytes {
        line(kind, &self.view.one(self.target.resource, object))
    }

    fn bookmark(&self, version: u64) -> Bytes {
        let resource = self.target.resource;
        let object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null } });
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })))
}
