//! The policy directory: read, compiled, watched, swapped atomically.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource};
use tokio::sync::watch;
use weir_decide::{PolicyProblem, PolicySet, PolicySettings, PolicySource};
use weir_model::vocabulary::Vocabulary;

use crate::config::Config;

/// Bytes of all policy files together.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Vocabularies of the protocols that are built in.
pub(crate) const VOCABULARIES: &[&Vocabulary] = &[
    &weir_postgres::vocabulary::VOCABULARY,
    &weir_kubernetes::vocabulary::VOCABULARY,
    &weir_ssh::vocabulary::VOCABULARY,
];

/// Every `*.cedar` file of the directory, sorted by name.
pub(crate) fn read(directory: &Path) -> Result<Vec<PolicySource>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("reading the policy directory {}", directory.display()))?;
    let mut sources = Vec::new();
    let mut total = 0;
    for entry in entries {
        let path = entry.context("reading the policy directory")?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "cedar")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        total += text.len() as u64;
        anyhow::ensure!(total <= BYTES_MAX, "the policies are larger than 32 MiB");
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        sources.push(PolicySource { name, text });
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    anyhow::ensure!(
        !sources.is_empty(),
        "{} has no *.cedar file: everything would be denied",
        directory.display()
    );
    Ok(sources)
}

/// What the compiler needs to know of the configuration.
pub(crate) fn settings(config: &Config) -> PolicySettings {
    PolicySettings {
        reviewer_groups: config.approvals.reviewer_groups.keys().cloned().collect(),
        targets: config
            .targets
            .iter()
            .map(|target| target.name.to_string())
            .collect(),
        group_aliases: config.groups.clone(),
    }
}

/// Reads and compiles.
///
/// # Errors
/// One error whose text lists every problem.
pub(crate) fn load(config: &Config) -> Result<PolicySet> {
    compile(&read(&config.policies)?, &settings(config))
}

/// Compiles, and refuses what [`PolicySet::lints`] finds.
///
/// # Errors
/// One error whose text lists every problem.
pub(crate) fn compile(sources: &[PolicySource], settings: &PolicySettings) -> Result<PolicySet> {
    checked(sources, settings).map_err(|problems| {
        let count = problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        let told = told(&problems, sources);
        anyhow::anyhow!("{count} {noun} in the policies\n{told}")
    })
}

/// The same with the problems as they are.
pub(crate) fn checked(
    sources: &[PolicySource],
    settings: &PolicySettings,
) -> Result<PolicySet, Vec<PolicyProblem>> {
    let set = PolicySet::compile(sources, VOCABULARIES, settings)?;
    let lints = set.lints();
    if lints.is_empty() {
        Ok(set)
    } else {
        Err(lints)
    }
}

/// Each problem with the lines that it is about.
pub(crate) fn told(problems: &[PolicyProblem], sources: &[PolicySource]) -> String {
    let texts: Vec<String> = problems
        .iter()
        .map(|problem| one_told(problem, sources))
        .collect();
    texts.join("\n")
}

fn one_told(problem: &PolicyProblem, sources: &[PolicySource]) -> String {
    let mut text = format!("  {problem}");
    let source = sources.iter().find(|source| source.name == problem.file);
    if let (Some(source), Some(span)) = (source, &problem.span) {
        let label = LabeledSpan::at(span.clone(), "");
        // The message stands above: what is drawn is the place alone.
        let diagnostic = MietteDiagnostic::new("").with_label(label);
        let place = NamedSource::new(&source.name, source.text.clone());
        let report = miette::Report::new(diagnostic).with_source_code(place);
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
        let mut drawn = String::new();
        if handler.render_report(&mut drawn, report.as_ref()).is_ok() {
            for line in drawn.lines().filter(|line| !line.trim().is_empty()) {
                if line.trim() != "×" {
                    text.push_str("\n  ");
                    text.push_str(line);
                }
            }
        }
    }
    if let Some(help) = &problem.help {
        text.push_str("\n    help: ");
        text.push_str(help);
    }
    text
}

/// How often the directory is looked at. A ConfigMap mount changes by a symlink swap, which
/// file notification misses on some file systems, so contents are compared.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Swaps a changed policy set in; the last good one keeps serving when the new one is broken.
pub(crate) async fn watch(config: Config, sender: watch::Sender<Arc<PolicySet>>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut complained = String::new();
    loop {
        looks.tick().await;
        let current = sender.borrow().version();
        match load(&config) {
            Ok(set) => {
                complained.clear();
                if set.version() != current {
                    tracing::info!(version = set.version(), "new policies are in force");
                    if sender.send(Arc::new(set)).is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let text = format!("{error:#}");
                if text != complained {
                    tracing::error!(%text, "policies are broken; the last good ones stay in force");
                    complained = text;
                }
            }
        }
    }
}
