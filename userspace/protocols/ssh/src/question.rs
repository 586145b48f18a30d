//! From what a channel asks for to what policy is asked.

use std::sync::Arc;

use crate::command::effects;
use weir_model::request::{Access, AttrValue, Intent, Object, Recorded, Request};

/// Whose account is used on which target.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) target: Arc<str>,
    /// As whom the server is used.
    pub(crate) user: Arc<str>,
    /// As whom the client wanted to use it.
    pub(crate) requested: Arc<str>,
}

/// A path of an operation, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileAccess {
    pub(crate) action: &'static str,
    pub(crate) path: Arc<str>,
}

impl Place {
    fn object(&self, kind: &'static str, rest: &[&str]) -> Object {
        let mut path = vec![Arc::clone(&self.target), Arc::clone(&self.user)];
        path.extend(rest.iter().map(|part| Arc::from(*part)));
        Object {
            kind,
            path: path.into(),
        }
    }

    fn account(&self, action: &'static str) -> Access {
        Access {
            action,
            object: self.object("Account", &[]),
        }
    }

    fn context(&self) -> Vec<(&'static str, AttrValue)> {
        vec![
            ("user", AttrValue::String(Arc::clone(&self.user))),
            (
                "requestedUser",
                AttrValue::String(Arc::clone(&self.requested)),
            ),
        ]
    }

    /// A command line.
    pub(crate) fn exec(&self, command: &str, terminal: bool) -> Request {
        let effects = effects(command);
        let mut accesses = vec![self.account("exec"), self.account("readOutput")];
        accesses.extend(effects.programs.iter().map(|name| Access {
            action: "run",
            object: self.object("Program", &[name]),
        }));
        accesses.extend(effects.files.iter().map(|file| Access {
            action: file.action,
            object: self.object("File", &[&file.path]),
        }));
        if !effects.unclear.is_empty() {
            accesses.push(self.account("runUnclear"));
        }
        let mut context = self.context();
        context.push(("command", AttrValue::String(Arc::from(command))));
        context.push(("terminal", AttrValue::Bool(terminal)));
        context.push(("programs", set(effects.programs.iter())));
        context.push(("arguments", set(effects.arguments.iter())));
        context.push(("unclear", set(effects.unclear.iter())));
        request(accesses, context, Arc::from(command))
    }

    /// An interactive shell.
    pub(crate) fn shell(&self, terminal: bool) -> Request {
        let mut context = self.context();
        context.push(("terminal", AttrValue::Bool(terminal)));
        let accesses = vec![self.account("shell"), self.account("readOutput")];
        request(accesses, context, Arc::from("shell"))
    }

    pub(crate) fn sftp(&self) -> Request {
        request(
            vec![self.account("sftp")],
            self.context(),
            Arc::from("sftp"),
        )
    }

    /// One operation of the file transfer protocol.
    pub(crate) fn file(&self, operation: &str, files: &[FileAccess], bytes_in: u64) -> Request {
        let mut context = self.context();
        context.push(("operation", AttrValue::String(Arc::from(operation))));
        let accesses = files
            .iter()
            .map(|file| Access {
                action: file.action,
                object: self.object("File", &[&file.path]),
            })
            .collect();
        let mut statement = format!("sftp {operation}");
        let mut last: Option<&str> = None;
        for file in files {
            if last != Some(&*file.path) {
                statement.push(' ');
                statement.push_str(&file.path);
            }
            last = Some(&file.path);
        }
        let mut request = request(accesses, context, Arc::from(statement));
        request.bytes_in = bytes_in;
        request
    }

    /// A connection from the host.
    pub(crate) fn forward(&self, host: &str, port: u32) -> Request {
        let mut context = self.context();
        context.push(("host", AttrValue::String(Arc::from(host))));
        context.push(("port", AttrValue::Long(i64::from(port))));
        let destination = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let access = Access {
            action: "forward",
            object: Object {
                kind: "Destination",
                path: [Arc::clone(&self.target), Arc::from(destination.as_str())].into(),
            },
        };
        let statement = format!("connect to {destination}");
        request(vec![access], context, Arc::from(statement))
    }
}

/// What policy is asked about a command line that `user` runs on `target`, without a connection: for
/// tests of policies and for people who ask why.
#[must_use]
pub fn command_line(target: &Arc<str>, user: &Arc<str>, command: &str) -> Request {
    let place = Place {
        target: Arc::clone(target),
        user: Arc::clone(user),
        requested: Arc::clone(user),
    };
    place.exec(command, false)
}

fn set<T: AsRef<str>>(items: impl Iterator<Item = T>) -> AttrValue {
    AttrValue::StringSet(items.map(|item| Arc::from(item.as_ref())).collect())
}

fn request(
    accesses: Vec<Access>,
    context: Vec<(&'static str, AttrValue)>,
    statement: Arc<str>,
) -> Request {
    let intent = Intent::new(accesses, context);
    Request {
        recorded: Recorded::of(&intent),
        intent: Arc::new(intent),
        bytes_in: statement.len() as u64,
        statement,
        parameters: String::new(),
        shape: 0,
        decode_us: 0,
    }
}

#[cfg(test)]
mod tests;
