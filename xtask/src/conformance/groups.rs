//! The groups of the suite, and which of them are meant to differ through Weir.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// A group of the suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    /// Why it fails through Weir, where that is meant.
    pub(super) differs: Option<String>,
}

/// Groups in the suite's order; those named only, unless none is.
pub(super) fn choose(suite: &Path, wanted: &[String]) -> Result<Vec<Group>> {
    let script = suite.join("test/cmd/legacy-script.sh");
    let script = fs::read_to_string(&script).context("reading the suite's script")?;
    let file = super::folder().join("differences.txt");
    let file = fs::read_to_string(&file).context("reading the differences")?;
    let groups = groups(&script, &file)?;
    for name in wanted {
        if !groups.iter().any(|group| group.name == *name) {
            bail!("the suite has no group '{name}'");
        }
    }
    Ok(groups
        .into_iter()
        .filter(|group| wanted.is_empty() || wanted.contains(&group.name))
        .collect())
}

fn groups(script: &str, file: &str) -> Result<Vec<Group>> {
    let mut differences = BTreeMap::new();
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let (name, why) = line
            .split_once(": ")
            .context("a difference without a why")?;
        differences.insert(name, why);
    }
    let mut groups: Vec<Group> = Vec::new();
    for line in script.lines() {
        // One group is called without recording what it says.
        let line = line.trim();
        let name = line.strip_prefix("record_command ").unwrap_or(line);
        if !name.starts_with("run_") || name.contains(|c: char| c != '_' && !c.is_alphanumeric()) {
            continue;
        }
        let name = name.to_owned();
        if groups.iter().all(|known| known.name != name) {
            let differs = differences.remove(name.as_str()).map(str::to_owned);
            groups.push(Group { name, differs });
        }
    }
    if let Some(name) = differences.keys().next() {
        bail!("differences.txt names '{name}', which is no group of the suite");
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_in_order_with_their_differences() {
        let script = "  record_command run_b_tests\nrecord_command \"run_${x}\"\n\
                      # record_command run_c_tests\nrun_d_tests() {\n\
                      run_a_tests\nrecord_command run_b_tests\n";
        let found = groups(script, "# why\n\nrun_a_tests: by design\n").unwrap();
        let names: Vec<&str> = found.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["run_b_tests", "run_a_tests"]);
        assert_eq!(found[1].differs.as_deref(), Some("by design"));
        assert!(groups(script, "run_c_tests: x\n").is_err());
    }
}
