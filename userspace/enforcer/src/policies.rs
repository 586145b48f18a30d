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

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
version: 1
node: { name: n1, cluster: lab, user: nobody, cgroup: /weir, governed: /agents }
identity:
  authority: http://127.0.0.1:9443
  allow_plain_loopback: true
  tenants: ["11111111-1111-4111-8111-111111111111"]
  audience: "22222222-2222-4222-8222-222222222222"
  required_role: Agent.Connect
workloads:
  - name: analyst
    cgroup: /agents/analyst
    identity:
      kind: federated
      tenant: "11111111-1111-4111-8111-111111111111"
      client_id: "33333333-3333-4333-8333-333333333333"
      token_file: tokens/analyst
targets:
  - name: demo
    protocol: postgres
    match: { hosts: ["10.77.0.10"], ports: [5432] }
    credential: { user: weir_app, password_file: pw }
policies: { directory: . }
"#;

    fn permit(id: &str) -> String {
        format!(
            "@id(\"{id}\")\n@reason(\"r\")\npermit (principal, action == \
             Postgres::Action::\"select\", resource);\n"
        )
    }

    fn problems(text: &str) -> String {
        let sources = [PolicySource {
            name: "a.cedar".to_owned(),
            text: text.to_owned(),
        }];
        let settings = PolicySettings {
            targets: vec!["demo".to_owned()],
            ..PolicySettings::default()
        };
        compile(&sources, &settings).unwrap_err().to_string()
    }

    #[test]
    fn a_problem_is_told_with_its_place_and_the_line() {
        let told = problems(&permit("a").replace("select", "selekt"));
        assert!(told.contains("a.cedar:3:"), "{told}");
        assert!(told.contains("selekt\", resource)"), "{told}");
        let told = problems("\n@id(\"a\") permit (principal, action, resource);");
        assert!(told.contains("a.cedar:2:1: a has no @reason"), "{told}");
    }

    #[tokio::test]
    async fn broken_policies_leave_the_last_good_ones_in_force() {
        let directory = std::env::temp_dir().join(format!("weir-watch-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let put = |text: &str| {
            // As a ConfigMap does it: whole, or not at all.
            std::fs::write(directory.join("next"), text).unwrap();
            std::fs::rename(directory.join("next"), directory.join("a.cedar")).unwrap();
        };
        put(&permit("a"));
        let config = crate::config::parse(CONFIG, &directory).unwrap();
        let first = Arc::new(load(&config).unwrap());
        let (sender, mut receiver) = watch::channel(Arc::clone(&first));
        let watching = tokio::spawn(watch(config, sender));
        put(&permit("b"));
        receiver.changed().await.unwrap();
        let second = Arc::clone(&receiver.borrow_and_update());
        assert!(second.about("b").is_some() && second.version() != first.version());
        put("permit (");
        let quiet = tokio::time::timeout(LOOK_EVERY * 2, receiver.changed()).await;
        assert!(quiet.is_err(), "a broken set came into force");
        assert_eq!(receiver.borrow().version(), second.version());
        put(&permit("c"));
        receiver.changed().await.unwrap();
        assert!(receiver.borrow().about("c").is_some());
        watching.abort();
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
