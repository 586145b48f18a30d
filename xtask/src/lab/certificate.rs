//! TLS of the demo database.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::User;

use super::model::Lab;
use crate::run;

/// The name by which Weir proves the server.
const SERVER_NAME: &str = "db.demo.internal";

/// A certificate by which the server can be proven; it is its own authority.
pub(super) fn make(lab: &Lab, owner: &User, data: &Path) -> Result<()> {
    let addresses = lab.database.addresses;
    let names = format!(
        "subjectAltName=DNS:{SERVER_NAME},IP:{},IP:{}",
        addresses.v4, addresses.v6
    );
    let key = data.join("server.key");
    run::quiet(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"])
            .args([
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-subj",
                "/CN=weir lab",
            ])
            .args([
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
                &names,
            ])
            .args(["-keyout".as_ref(), key.as_os_str()])
            .args(["-out".as_ref(), lab.database.ca_file.as_os_str()]),
    )?;
    fs::copy(&lab.database.ca_file, data.join("server.crt")).context("the certificate")?;
    for file in [key, data.join("server.crt")] {
        chown(&file, Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
            .with_context(|| format!("owning {}", file.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("protecting {}", file.display()))?;
    }
    Ok(())
}
