//! Scripts of the source's `test/cmd` suite, run straight at the server or through Weir.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::build::Built;
use super::cluster::Server;
use crate::lab::model::Lab;
use crate::say::Step;
use crate::{place, run};

/// The suite starts its own server on loopback and trusts whatever certificate it meets; here it is
/// told where the server is and whose certificates to believe. It fetches one file of its own source.
const ELSEWHERE: [(&str, &str); 5] = [
    ("https://127.0.0.1:${SECURE_API_PORT}", "${WEIR_API}"),
    ("https://localhost:${SECURE_API_PORT}", "${WEIR_API}"),
    ("127.0.0.1:${SECURE_API_PORT}", "${WEIR_API#https://}"),
    (
        "https://raw.githubusercontent.com/kubernetes/kubernetes/master/",
        "",
    ),
    (
        "'--insecure-skip-tls-verify'",
        "\"--certificate-authority=${WEIR_API_CA}\"",
    ),
];

/// A group that hangs ends here; the longest take about three minutes on a slow machine.
const GROUP_S_MAX: &str = "900";

/// Rewrites the scripts of an unpacked source.
pub(super) fn point_elsewhere(suite: &Path) -> Result<()> {
    for folder in ["test/cmd", "hack/lib"] {
        let folder = suite.join(folder);
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "sh") {
                continue;
            }
            let read = fs::read_to_string(&path);
            let text = read.with_context(|| format!("reading {}", path.display()))?;
            let changed = elsewhere(&text);
            if changed != text {
                fs::write(&path, changed)
                    .with_context(|| format!("changing {}", path.display()))?;
            }
        }
    }
    Ok(())
}

fn elsewhere(script: &str) -> String {
    ELSEWHERE
        .iter()
        .fold(script.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// By which way the suite asks the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Weir,
    Direct,
}

/// The suite, ready to run.
pub(super) struct Suite<'a> {
    lab: &'a Lab,
    built: &'a Built,
    governed: &'a Server,
    direct: &'a Server,
    /// What a platform team would roll out to an agent.
    agent_kubeconfig: String,
}

impl<'a> Suite<'a> {
    pub(super) fn new(
        lab: &'a Lab,
        built: &'a Built,
        governed: &'a Server,
        direct: &'a Server,
    ) -> Result<Self> {
        let weir = lab.weir.as_ref().context("the lab has no Weir")?;
        let agent_kubeconfig = run::output(
            Command::new(&weir.binary)
                .args(["ca", "kubeconfig", "--target", "conformance"])
                .args(["--server", &governed.url, "--config"])
                .arg(&weir.config),
        )?;
        // On one line: it is given on as an argument.
        let agent_kubeconfig: serde_json::Value =
            serde_json::from_str(&agent_kubeconfig).context("a kubeconfig of weir")?;
        Ok(Self {
            lab,
            built,
            governed,
            direct,
            agent_kubeconfig: agent_kubeconfig.to_string(),
        })
    }

    /// Where the output of a script goes.
    pub(super) fn log(name: &str, way: Way) -> PathBuf {
        let way = match way {
            Way::Weir => "weir",
            Way::Direct => "direct",
        };
        place::target().join(format!("conformance/kubernetes/{name}.{way}.log"))
    }

    /// One group of the suite; an error holds the end of its output.
    pub(super) fn group(&self, step: &Step, name: &str, way: Way) -> Result<()> {
        self.script(step, "group.sh", name, way)
    }

    /// A conversation of our own; the same script either way.
    pub(super) fn conversation(&self, step: &Step) -> Result<()> {
        self.script(step, "conversation.sh", "conversation", Way::Weir)
    }

    fn script(&self, step: &Step, script: &str, name: &str, way: Way) -> Result<()> {
        let path = super::folder().join(script);
        let (server, kubeconfig) = match way {
            Way::Weir => (self.governed, &self.agent_kubeconfig),
            Way::Direct => (self.direct, &self.direct.kubeconfig),
        };
        let variables = [
            ("WEIR_API", server.url.clone()),
            ("WEIR_KUBECONFIG", kubeconfig.clone()),
            ("WEIR_BIN", self.built.bin.display().to_string()),
            ("WEIR_SUITE", self.built.suite.display().to_string()),
        ];
        let mut command = match way {
            Way::Weir => self.inside()?,
            Way::Direct => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", self.lab.outside.netns.display()));
                command
            }
        };
        match way {
            Way::Weir => {
                for (variable, value) in variables {
                    command.args(["--env", &format!("{variable}={value}")]);
                }
                command.arg("--");
            }
            Way::Direct => {
                command.envs(variables);
            }
        }
        command
            .args(["timeout", "--kill-after=10", GROUP_S_MAX, "bash"])
            .arg(path)
            .arg(name);
        run::logged(step, &Self::log(name, way), &mut command)
    }

    fn inside(&self) -> Result<Command> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command.args(["lab", "exec", "--name", &self.lab.name]);
        command.args(["--agent", "operator"]);
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_ask_the_server_that_they_are_told() {
        let flags = r#"kube_flags=( '-s' "https://127.0.0.1:${SECURE_API_PORT}" '--insecure-skip-tls-verify' )"#;
        assert_eq!(
            elsewhere(flags),
            r#"kube_flags=( '-s' "${WEIR_API}" "--certificate-authority=${WEIR_API_CA}" )"#
        );
        let certificates = r#"s_client -connect "127.0.0.1:${SECURE_API_PORT}""#;
        assert_eq!(
            elsewhere(certificates),
            r#"s_client -connect "${WEIR_API#https://}""#
        );
    }
}
