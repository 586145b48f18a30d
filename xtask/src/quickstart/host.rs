//! The same for a host, with plain ssh and sftp.

use std::fs;

use anyhow::{Context, Result};

use super::held;
use super::scene::Scene;
use crate::{lab, say};

/// The key in the host's app.conf.
const SECRET: &str = lab::HOST_SECRET;

/// One allowed, one masked, one refused, one held action.
pub(super) fn show_host(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("6. The same with plain ssh: allowed, masked, refused, held");
    let host = scene.lab.ssh_host.name.clone();
    let said = scene.run("analyst", &["ssh", &host, "tail -1 app.log | grep paid"])?;
    scene.expect("the analyst looks at a log", said.out.contains("order 17"));
    let said = scene.run("analyst", &["ssh", "-tt", &host, "cat app.conf"])?;
    scene.expect(
        "a key in the output is masked, on a terminal too",
        said.has("[masked:aws-access-key-id]") && !said.has(SECRET),
    );
    let said = scene.run("analyst", &["ssh", &host, "ls; sh -c 'touch made'"])?;
    let made = scene.lab.ssh_host.home.join("made").exists();
    scene.expect(
        "a program that may not run is refused wherever it hides, naming the rule",
        said.code == 126 && said.has("weir:no-permit") && !made,
    );
    let get = format!("echo 'get ../../../../../../etc/passwd /tmp/x' | sftp -q -b - {host}");
    let said = scene.run("analyst", &["sh", "-c", &get])?;
    scene.expect(
        "a file of the system is refused by its real path (sftp)",
        said.code != 0 && said.has("denied"),
    );
    let old = scene.lab.ssh_host.home.join("old.log");
    fs::write(&old, "old").context("a file on the host")?;
    let said = held::approve(scene, &["ssh", &host, "rm -f old.log"], "rm -f old.log")?;
    scene.expect(
        "the operator's rm waits, and runs after the approval",
        said.code == 0 && !old.exists(),
    );
    Ok(())
}
