//! What exec, attach and port-forward ask policy for.
//!
//! Their verb for RBAC depends on the client's transport (`get` by WebSocket, `create` by SPDY), so
//! that policy is asked for the effect alone. Source: `PodExecOptions`, `PodAttachOptions` and
//! `PodPortForwardOptions` of Kubernetes' API.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::request::{Access, AttrValue, Intent, Object, Recorded, Request};

use crate::info::{Resource, Verb};
use crate::path::{Query, Unclear};

/// Ports that one request names (plain WebSocket only): each has two of 255 channels.
const PORTS_MAX: usize = 127;

/// What runs behind the upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub effect: Effect,
    /// The command as its arguments; empty for attach and port-forward.
    pub command: Vec<String>,
    pub container: String,
    pub stdin: bool,
    pub tty: bool,
    /// Ports that the request names; others are named by their streams.
    pub ports: Vec<u16>,
    /// `[target, namespace, pods:exec, name]`.
    object: Object,
    place: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Exec,
    Attach,
    PortForward,
}

impl Effect {
    /// The action that the request itself needs.
    const fn action(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "openPortForward",
        }
    }
}

/// What a request for streams is, if it is one.
///
/// # Errors
/// [`Unclear`] for proxies, and for streams of anything but pods.
pub(crate) fn read(
    target: &Arc<str>,
    resource: &Resource,
    query: &Query,
) -> Result<Option<Remote>, Unclear> {
    let effect = match resource.subresource.as_str() {
        "exec" => Effect::Exec,
        "attach" => Effect::Attach,
        "portforward" => Effect::PortForward,
        "proxy" => return Err(Unclear("proxying is not supported")),
        _ => return Ok(None),
    };
    if !resource.group.is_empty() || resource.resource != "pods" || resource.namespace.is_empty() {
        return Err(Unclear("streams are known of pods only"));
    }
    if !matches!(resource.verb, Verb::Get | Verb::Create) {
        return Err(Unclear("streams are opened by GET or POST"));
    }
    let command = query.all("command").to_vec();
    match (effect, command.first().map(String::as_str)) {
        (Effect::Exec, None | Some("")) => return Err(Unclear("exec without a command")),
        (Effect::Exec, Some(_)) | (_, None) => {}
        (_, Some(_)) => return Err(Unclear("a command where none is run")),
    }
    let path: [Arc<str>; 4] = [
        Arc::clone(target),
        Arc::from(resource.namespace.as_str()),
        Arc::from(format!("pods:{}", resource.subresource)),
        Arc::from(resource.name.as_str()),
    ];
    Ok(Some(Remote {
        effect,
        command,
        container: query.one("container")?.unwrap_or_default().to_owned(),
        stdin: query.flag("stdin")?,
        tty: query.flag("tty")?,
        ports: ports(query)?,
        object: Object {
            kind: "Object",
            path: path.into(),
        },
        place: format!("pods/{} -n {}", resource.name, resource.namespace),
    }))
}

/// `ports=80,5432` or `ports=80&ports=5432`.
fn ports(query: &Query) -> Result<Vec<u16>, Unclear> {
    let mut ports = Vec::new();
    for text in query.all("ports").iter().flat_map(|list| list.split(',')) {
        match text.parse() {
            Ok(port) if port != 0 && ports.len() < PORTS_MAX => ports.push(port),
            _ => return Err(Unclear("a port is none, or there are too many")),
        }
    }
    Ok(ports)
}

impl Remote {
    /// The request's own accesses.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        let output: &[&'static str] = match self.effect {
            Effect::Exec | Effect::Attach => &["readOutput"],
            // What ports say is no text.
            Effect::PortForward => &[],
        };
        let actions = [self.effect.action()].into_iter();
        actions
            .chain(output.iter().copied())
            .map(|action| Access {
                action,
                object: self.object.clone(),
            })
            .collect()
    }

    /// What policy may look at besides the request's place.
    pub(crate) fn context(&self) -> Vec<(&'static str, AttrValue)> {
        if self.effect == Effect::PortForward {
            return Vec::new();
        }
        let mut context = vec![
            ("stdin", AttrValue::Bool(self.stdin)),
            ("tty", AttrValue::Bool(self.tty)),
        ];
        if !self.container.is_empty() {
            context.push(("container", text(&self.container)));
        }
        if let Some(program) = self.command.first() {
            let arguments: BTreeSet<&str> = self.command.iter().map(String::as_str).collect();
            context.push(("program", text(program)));
            context.push(("command", text(&self.command.join(" "))));
            context.push((
                "arguments",
                AttrValue::StringSet(arguments.into_iter().map(Arc::from).collect()),
            ));
        }
        context
    }

    /// `exec -it -c app pods/web-0 -n shop: ls -l`
    pub(crate) fn said(&self) -> String {
        let what = match self.effect {
            Effect::Exec => "exec",
            Effect::Attach => "attach",
            Effect::PortForward => "port-forward",
        };
        let mut text = String::from(what);
        text.push_str(match (self.stdin, self.tty) {
            (true, true) => " -it",
            (true, false) => " -i",
            (false, true) => " -t",
            (false, false) => "",
        });
        if !self.container.is_empty() {
            text.push_str(" -c ");
            text.push_str(&quote(&self.container));
        }
        text.push(' ');
        text.push_str(&self.place);
        if !self.command.is_empty() {
            text.push_str(": ");
            text.push_str(&self.command_line());
        }
        text
    }

    /// The command as a shell would be given it.
    #[must_use]
    pub fn command_line(&self) -> String {
        let quoted: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        quoted.join(" ")
    }

    /// The command writes an archive, as `kubectl cp` asks for it.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        let program = self.command.first().map_or("", String::as_str);
        !self.tty && program.rsplit('/').next() == Some("tar")
    }

    /// The question whether one port may be reached.
    #[must_use]
    pub fn port(&self, port: u16) -> Request {
        let access = Access {
            action: "portForward",
            object: self.object.clone(),
        };
        let mut context = vec![("port", AttrValue::Long(i64::from(port)))];
        if let [_, namespace, _, name] = &*self.object.path {
            context.push(("namespace", AttrValue::String(Arc::clone(namespace))));
            context.push(("name", AttrValue::String(Arc::clone(name))));
        }
        let intent = Intent::new(vec![access], context);
        Request {
            recorded: Recorded::of(&intent),
            intent: Arc::new(intent),
            statement: Arc::from(format!("port-forward {}: {port}", self.place)),
            parameters: String::new(),
            shape: 0,
            decode_us: 0,
            bytes_in: 0,
        }
    }
}

fn text(value: &str) -> AttrValue {
    AttrValue::String(Arc::from(value))
}

/// Unchanged when nothing in it means anything to a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}
