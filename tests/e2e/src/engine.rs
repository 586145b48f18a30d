//! Real container runtimes for the time of a test: Docker's engine on the lab's bridge, and Podman.
//!
//! Images are made here, of links into the host's `/usr`, so nothing comes from a network.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::lab::{Lab, Said};
use crate::until;

/// Directories of an image; the others are links into `usr`, which is mounted.
const DIRECTORIES: [&str; 6] = ["usr", "etc", "tmp", "proc", "sys", "dev"];
const LINKS: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Podman wants to raise limits that not every machine lets root raise.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit",
    "nproc=1024:1024",
];

/// A runtime that runs, its socket where the lab's configuration says.
pub struct Engine {
    /// Command line that talks to it.
    client: Vec<String>,
    /// Options of every container.
    options: Vec<String>,
    /// Of which containers are made.
    pub image: &'static str,
    /// Where its containers' cgroups are made, below each mount.
    parent: String,
    folder: PathBuf,
    pub daemon: Child,
}

fn programs(names: &[&str]) -> Result<()> {
    for name in names {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", name])
            .stdout(Stdio::null())
            .status();
        ensure!(
            found.is_ok_and(|status| status.success()),
            "{name} is missing: cargo xtask test --tier sets installs it"
        );
    }
    Ok(())
}

fn texts(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}

impl Engine {
    /// Docker's engine. Its containers are on the lab's bridge.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn docker(lab: &Lab) -> Result<Self> {
        programs(&["dockerd", "docker", "containerd"])?;
        let folder = folder(lab, "docker")?;
        let socket = format!("unix://{}/docker.sock", lab.name("LAB_RUN_DIR")?);
        let at = |name: &str| folder.join(name).display().to_string();
        let host = lab.name("LAB_HOST_V4")?;
        let number = host.split('.').nth(2).context("the lab's number")?;
        fs::write(folder.join("daemon.json"), "{}").context("daemon.json")?;
        let mut command = Command::new("dockerd");
        command
            .args([
                "--config-file",
                &at("daemon.json"),
                "--data-root",
                &at("data"),
            ])
            .args(["--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--host", &socket, "--storage-driver", "vfs"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--bridge", &format!("weir{number}")])
            .args(["--fixed-cidr", &format!("10.77.{number}.128/25")])
            // The host's network is not the test's to change.
            .args([
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
            ])
            .args(["--ip-masq=false", "--userland-proxy=false"]);
        let engine = Self {
            client: texts(&["docker", "--host", &socket]),
            options: Vec::new(),
            image: "host-usr:1",
            parent: format!("{}/docker", lab.name("LAB_CGROUP_GOVERNED")?),
            daemon: daemon(command, &folder)?,
            folder,
        };
        engine.ready()
    }

    /// Podman's service. Its containers are on the host's network.
    ///
    /// # Errors
    /// As [`Engine::docker`].
    pub fn podman(lab: &Lab) -> Result<Self> {
        programs(&["podman", "runc", "conmon"])?;
        let folder = folder(lab, "podman")?;
        let socket = format!("unix://{}/podman.sock", lab.name("LAB_RUN_DIR")?);
        let at = |name: &str| folder.join(name).display().to_string();
        let client = texts(&[
            "podman",
            "--root",
            &at("root"),
            "--runroot",
            &at("run"),
            "--tmpdir",
            &at("tmp"),
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--storage-driver=vfs",
            // crun refuses hosts with both versions of cgroups.
            "--runtime=runc",
        ]);
        let (program, arguments) = client.split_first().context("a program")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["system", "service", "--time=0", &socket]);
        let mut options = texts(&LIMITS);
        options.push("--network=host".to_owned());
        let engine = Self {
            options,
            image: "localhost/host-usr:1",
            parent: format!("{}/podman", lab.name("LAB_CGROUP_GOVERNED")?),
            daemon: daemon(command, &folder)?,
            client,
            folder,
        };
        engine.ready()
    }

    fn ready(self) -> Result<Self> {
        until("a container runtime", Duration::from_secs(60), || {
            let said = self.client(&["version"])?;
            Ok((said.code == 0).then_some(()))
        })?;
        let root = self.folder.join("image");
        for name in DIRECTORIES {
            fs::create_dir_all(root.join(name)).with_context(|| name.to_owned())?;
        }
        for name in LINKS {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name))
                .with_context(|| name.to_owned())?;
        }
        let file = self.folder.join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(&root).arg("-cf").arg(&file).arg(".");
        ensure!(said(tar)?.code == 0, "tar");
        let file = file.display().to_string();
        self.good(&["import", &file, "host-usr:1"])?;
        Ok(self)
    }

    /// Any command of its client.
    ///
    /// # Errors
    /// It cannot be started; its exit code is no error.
    pub fn client(&self, arguments: &[&str]) -> Result<Said> {
        let (program, own) = self.client.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(own).args(arguments);
        said(command)
    }

    /// As [`Engine::client`]; what it printed.
    ///
    /// # Errors
    /// Its exit code as well.
    pub fn good(&self, arguments: &[&str]) -> Result<String> {
        let said = self.client(arguments)?;
        ensure!(said.code == 0, "{arguments:?}: {said:?}");
        Ok(said.out.trim().to_owned())
    }

    /// `run` with these options and that command; one that is not there needs no network.
    ///
    /// # Errors
    /// As [`Engine::client`].
    pub fn run(&self, options: &[&str], command: &[&str]) -> Result<Said> {
        let parent = format!("--cgroup-parent={}", self.parent);
        let own: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let all = [
            &["run", &parent, "--volume=/usr:/usr:ro"],
            &own[..],
            options,
            &[self.image],
            command,
        ];
        self.client(&all.concat())
    }
}

fn folder(lab: &Lab, name: &str) -> Result<PathBuf> {
    let folder = Path::new(&lab.name("LAB_STATE_DIR")?).join(name);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn daemon(mut command: Command, folder: &Path) -> Result<Child> {
    let log = fs::File::create(folder.join("log")).context("a log")?;
    let copy = log.try_clone().context("a log")?;
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        .spawn()
        .with_context(|| format!("{command:?}"))
}

fn said(mut command: Command) -> Result<Said> {
    let output = command
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    Ok(Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Engine {
    fn end(&mut self) -> Result<()> {
        let all = self.good(&["ps", "--all", "--quiet"])?;
        let ids: Vec<&str> = all.lines().collect();
        if !ids.is_empty() {
            let mut remove = vec!["rm", "--force"];
            remove.extend(ids);
            self.good(&remove)?;
        }
        let pid = self.daemon.id().to_string();
        let mut kill = Command::new("kill");
        kill.args(["-CONT", &pid]);
        said(kill)?;
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &pid]);
        said(kill)?;
        let ended = until("the end of a runtime", Duration::from_secs(30), || {
            self.daemon.try_wait().context("waiting")
        });
        if ended.is_err() {
            self.daemon.kill().context("killing")?;
            bail!("a runtime did not end by itself");
        }
        // On hosts with both versions it made one in each tree of the first, too.
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
        for mount in mounts.lines().filter_map(cgroup_mount) {
            let mut path = Path::new(mount).join(self.parent.trim_start_matches('/'));
            while path != Path::new(mount) && fs::remove_dir(&path).is_ok() {
                path.pop();
            }
        }
        Ok(())
    }
}

fn cgroup_mount(line: &str) -> Option<&str> {
    let (before, after) = line.split_once(" - ")?;
    let mount = before.split(' ').nth(4)?;
    after.starts_with("cgroup ").then_some(mount)
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            // Nobody reads it but a person whose test failed.
            let _said = writeln!(std::io::stderr(), "ending a runtime: {error:#}\n{log}");
        }
    }
}
