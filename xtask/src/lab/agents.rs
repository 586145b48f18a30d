//! The cgroups of a lab.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::daemon::wait_until;
use super::model::Lab;

/// The agents that every lab has. The first two sign in by their service-account tokens, as most
/// do; the others in the other ways, `guest` in another tenant.
pub(crate) const NAMES: [&str; 8] = [
    "analyst", "operator", "service", "machine", "agent", "laptop", "guest", "batch",
];
/// Root of the governed subtree, below the lab's own cgroup.
pub(crate) const GOVERNED: &str = "agents";
/// Weir's own cgroup: only the broker and the node are in it.
pub(crate) const ENFORCER: &str = "enforcer";
/// Database, test Entra, store.
pub(crate) const PARTS: &str = "parts";

/// Makes the lab's cgroups.
pub(crate) fn make(lab: &Lab) -> Result<()> {
    let mut below = vec![ENFORCER.to_owned(), PARTS.to_owned()];
    below.extend(lab.agents.keys().map(|name| format!("{GOVERNED}/{name}")));
    for part in below {
        let path = lab.cgroup_path(&part);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    }
    Ok(())
}

/// Ends every process in the lab's cgroups and removes them.
pub(crate) fn remove(lab: &Lab) -> Result<()> {
    let top = lab.cgroup_path("");
    if !top.exists() {
        return Ok(());
    }
    // Everything below was started by this lab: what a test left behind ends here, too.
    let kill = top.join("cgroup.kill");
    if kill.exists() {
        fs::write(&kill, "1").with_context(|| format!("writing {}", kill.display()))?;
    }
    wait_until("the lab's processes end", Duration::from_secs(60), || {
        remove_tree(&top)
    })
    .with_context(|| format!("removing {}", top.display()))
}

/// True when the tree is gone.
fn remove_tree(path: &Path) -> bool {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path());
            }
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
