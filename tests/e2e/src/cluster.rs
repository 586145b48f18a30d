//! The lab's cluster past Weir: its API as an administrator, and pods as a kubelet makes them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, Said};

/// Where cgroup v2 is mounted.
///
/// # Errors
/// When it is not.
pub fn tree() -> Result<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
    let mount = text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mount = before.split(' ').nth(4)?;
        after.starts_with("cgroup2 ").then(|| mount.to_owned())
    });
    Ok(PathBuf::from(mount.context("cgroup v2")?))
}

/// A pod's cgroup as the kubelet makes it with the systemd driver.
///
/// # Errors
/// When it cannot be made.
pub fn pod_cgroup(lab: &Lab, uid: &str) -> Result<PathBuf> {
    let governed = lab.name("LAB_CGROUP_GOVERNED")?;
    let slice = format!("kubepods-pod{}.slice", uid.replace('-', "_"));
    let path = tree()?
        .join(governed.trim_start_matches('/'))
        .join("kubepods.slice")
        .join(slice);
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// `psql` in a cgroup and a network namespace, by their paths.
///
/// # Errors
/// When it cannot be started.
pub fn psql_in(lab: &Lab, cgroup: &Path, netns: &str) -> Result<Said> {
    let join = r#"echo $$ >"$0/cgroup.procs" && exec "$@""#;
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={netns}"))
        .args(["sh", "-c", join])
        .arg(cgroup)
        .args(["psql", "-XAtqw", "-c", "select 1 + 1"])
        .args([
            "-h",
            &lab.name("LAB_DB_V4")?,
            "-p",
            &lab.name("LAB_DB_PORT")?,
        ])
        .args([
            "-U",
            &lab.name("LAB_DB_USER")?,
            "-d",
            &lab.name("LAB_DB_NAME")?,
        ])
        .current_dir("/")
        .stdin(Stdio::null());
    let output = command.output().context("psql in a cgroup")?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The test API server as its administrator, past Weir.
pub struct Api {
    server: String,
    ca: String,
    token: String,
}

impl Api {
    /// # Errors
    /// The lab has no cluster.
    pub fn new(lab: &Lab) -> Result<Self> {
        Ok(Self {
            server: lab.name("LAB_CLUSTER_SERVER")?,
            ca: lab.name("LAB_CLUSTER_CA_FILE")?,
            token: fs::read_to_string(lab.name("LAB_CLUSTER_TOKEN_FILE")?).context("a token")?,
        })
    }

    /// One request; a body of null is none.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        // The bearer goes by standard input: arguments are everybody's to read.
        let mut child = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--config",
                "-",
            ])
            .args(["--cacert", &self.ca, "--request", method])
            .args(["--header", &format!("Content-Type: {kind}")])
            .args(if body.is_null() {
                vec![]
            } else {
                vec!["--data".to_owned(), body.to_string()]
            })
            .arg(format!("{}{path}", self.server))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("curl")?;
        let mut input = child.stdin.take().context("its input")?;
        writeln!(
            input,
            "header = \"Authorization: Bearer {}\"",
            self.token.trim()
        )?;
        drop(input);
        let output = child.wait_with_output().context("curl")?;
        ensure!(output.status.success(), "{method} {path}: {output:?}");
        serde_json::from_slice(&output.stdout).context("an answer of the API")
    }
}
