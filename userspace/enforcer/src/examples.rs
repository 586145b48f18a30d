//! Policy examples: YAML files beside the policies that say who asks for what, and what policy
//! should answer. They need no server: tables come from a schema's text.

mod ask;
mod expect;
mod scene;
mod told;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

pub(crate) use self::ask::{Asked, Question};
pub(crate) use self::expect::{answer, answer_of};
pub(crate) use self::scene::{Scene, SceneTarget};
pub(crate) use self::told::Report;

/// Ends the name of a file with examples.
const SUFFIX: &str = ".test.yaml";
/// Bytes of one file.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleFile {
    pub(crate) version: u32,
    /// Names of policy files beside this one; all of them without.
    #[serde(default)]
    pub(crate) policies: Vec<String>,
    /// What the node's configuration would say.
    #[serde(default)]
    pub(crate) settings: ExampleSettings,
    pub(crate) principals: BTreeMap<String, ExamplePrincipal>,
    pub(crate) examples: Vec<Example>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleSettings {
    #[serde(default)]
    pub(crate) targets: BTreeMap<String, ExampleTarget>,
    #[serde(default)]
    pub(crate) reviewer_groups: Vec<String>,
    /// Readable name → Entra group.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleTarget {
    /// postgres, kubernetes or ssh.
    pub(crate) protocol: String,
    /// PostgreSQL: the database, its schema's text (relative to the file) and the search path.
    pub(crate) database: Option<String>,
    pub(crate) schema: Option<PathBuf>,
    pub(crate) search_path: Option<Vec<String>>,
    /// SSH: the account.
    pub(crate) user: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExamplePrincipal {
    /// Readable names, or Entra ids.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    #[serde(default)]
    pub(crate) roles: Vec<String>,
    #[serde(default)]
    pub(crate) person: bool,
    pub(crate) on_behalf_of: Option<String>,
    pub(crate) workload: Option<String>,
    pub(crate) application: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) id: Option<String>,
}

/// One question and the answer that is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    pub(crate) name: String,
    #[serde(rename = "as")]
    pub(crate) who: String,
    /// The only target without.
    pub(crate) target: Option<String>,
    pub(crate) sql: Option<String>,
    /// `GET /api/v1/namespaces/shop/pods`.
    pub(crate) request: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) command: Option<String>,
    /// UTC: `2026-12-24 18:30`.
    pub(crate) at: Option<String>,
    pub(crate) expect: Expected,
    /// The rules that decide: of an allowed request its permits.
    pub(crate) rules: Option<Vec<String>>,
    /// `table.column` → kind, such as `hash` or `partial:4`; all of them.
    pub(crate) masks: Option<BTreeMap<String, String>>,
    /// Groups that have to approve.
    pub(crate) reviewers: Option<Vec<String>>,
    pub(crate) rows_max: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expected {
    Allow,
    Deny,
    Hold,
    /// Before policy is asked: not understood, or not supported.
    Refuse,
}

impl Expected {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

/// Reads one file.
pub(crate) fn read(path: &Path) -> Result<ExampleFile> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("reading {}", path.display()))?
        .len();
    ensure!(size <= BYTES_MAX, "{} is larger than 4 MiB", path.display());
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let file: ExampleFile = serde_saphyr::from_str(&text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    ensure!(
        file.version == 1,
        "{}: version {} is not known; write version: 1",
        path.display(),
        file.version
    );
    ensure!(
        !file.examples.is_empty(),
        "{} has no examples: nothing would be tested",
        path.display()
    );
    Ok(file)
}

/// The files of a directory, by name; a file stands for itself.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context("reading a directory")?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
