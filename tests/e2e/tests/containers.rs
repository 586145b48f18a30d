//! Containers that a real runtime made, governed by name, label and image: Docker's engine and
//! Podman, with psql as it is.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_e2e::cluster::{psql_in, tree};
use weir_e2e::dns::Dns;
use weir_e2e::engine::Engine;
use weir_e2e::lab::{Lab, Said};
use weir_e2e::until;

/// A runtime that was not there is asked again after some seconds.
const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Containers whose first instruction is a connect.
const IMMEDIATE: usize = 12;

/// The server asks for a password, which only Weir has: success means that Weir served.
fn served(said: &Said) -> bool {
    said.code == 0 && said.out.contains('2')
}

fn reached_directly(said: &Said) -> bool {
    said.has("no password supplied")
}

fn refused(said: &Said) -> bool {
    said.has("Connection refused")
}

struct Scene {
    lab: Lab,
    dsn: String,
    _dns: Dns,
}

fn scene() -> Result<Scene> {
    let lab = Lab::current()?;
    let host: IpAddr = lab.name("LAB_HOST_V4")?.parse().context("an address")?;
    let database = lab.name("LAB_DB_V4")?;
    let dns = Dns::start(SocketAddr::new(host, 5399)).context("the test's DNS")?;
    dns.set("db.test", &[database.parse().context("an address")?]);
    let dsn = format!(
        "host={database} port={} user={} dbname={}",
        lab.name("LAB_DB_PORT")?,
        lab.name("LAB_DB_USER")?,
        lab.name("LAB_DB_NAME")?
    );
    Ok(Scene {
        lab,
        dsn,
        _dns: dns,
    })
}

impl Scene {
    fn psql(&self) -> [&str; 5] {
        ["psql", "-XAtqw", "-c", "select 1 + 1", &self.dsn]
    }

    /// A container that runs psql and ends.
    fn client(&self, engine: &Engine, options: &[&str]) -> Result<Said> {
        engine.run(&[&["--rm"], options].concat(), &self.psql())
    }

    /// The same in a container that is there.
    fn inside(&self, engine: &Engine, container: &str) -> Result<Said> {
        let command = self.psql();
        engine.client(&[&["exec", container], &command[..]].concat())
    }
}

fn comes(what: &str, mut ask: impl FnMut() -> Result<Said>, good: fn(&Said) -> bool) -> Result<()> {
    let mut last = None;
    let found = until(what, SEEN_WITHIN, || {
        let said = ask()?;
        let good = good(&said);
        last = Some(said);
        Ok(good.then_some(()))
    });
    found.with_context(|| format!("{last:?}"))
}

#[test]
fn docker_containers_are_governed_by_label_image_and_name() -> Result<()> {
    let scene = scene()?;
    let mut docker = Engine::docker(&scene.lab)?;
    let agent = ["--label", "app=docked"];
    comes(
        "an agent's container is served",
        || scene.client(&docker, &agent),
        served,
    )?;

    // From now on the runtime's news are followed: it is known before its first instruction. While
    // the kernel takes the network of the container before apart, no device can be guarded (that
    // takes the same lock), and a connect that does not wait is refused; never is it direct.
    let mut at_once = 0;
    for number in 0..IMMEDIATE {
        let said = scene.client(&docker, &agent)?;
        ensure!(
            served(&said) || refused(&said),
            "container {number}: {said:?}"
        );
        at_once += usize::from(served(&said));
    }
    ensure!(at_once > 0, "none was served at once");
    let other = || scene.client(&docker, &["--label", "app=other"]);
    comes("a container of nobody", other, reached_directly)?;

    docker.good(&["tag", "host-usr:1", "agent:7"])?;
    docker.image = "agent:7";
    comes("by its image", || scene.client(&docker, &[]), served)?;
    docker.image = "host-usr:1";
    by_name(&scene, &docker)?;
    let disputed = scene.client(&docker, &["--label", "app=docked", "--name", "docked"])?;
    ensure!(refused(&disputed), "of two workloads: {disputed:?}");
    recorded(&scene, &docker)?;
    while_the_runtime_hangs(&scene, &docker)
}

/// A name that changes hands takes its container along.
fn by_name(scene: &Scene, docker: &Engine) -> Result<()> {
    let sleeper = docker.run(&["--detach", "--name", "other"], &["sleep", "600"])?;
    ensure!(sleeper.code == 0, "{sleeper:?}");
    let ask = |name| move || scene.inside(docker, name);
    comes("a container of nobody", ask("other"), reached_directly)?;
    docker.good(&["rename", "other", "docked"])?;
    comes("it is an agent's by its new name", ask("docked"), served)?;
    docker.good(&["rename", "docked", "other"])?;
    comes("it is nobody's again", ask("other"), reached_directly)?;
    docker.good(&["rm", "--force", "other"])?;
    Ok(())
}

/// The record names the container.
fn recorded(scene: &Scene, docker: &Engine) -> Result<()> {
    let agent = ["--detach", "--label", "app=docked", "--name", "noted"];
    let said = docker.run(&agent, &["sleep", "600"])?;
    let id = said.out.trim().to_owned();
    ensure!(id.len() == 64, "{said:?}");
    comes("it is served", || scene.inside(docker, "noted"), served)?;
    let sql = format!("SELECT count() > 0 FROM weir.fact WHERE container = '{id}'");
    until("the container in the record", SEEN_WITHIN, || {
        Ok((scene.lab.store(&sql)?.trim() == "1").then_some(()))
    })
}

/// What is known stays known; a cgroup that looks like a container's is nobody's.
fn while_the_runtime_hangs(scene: &Scene, docker: &Engine) -> Result<()> {
    let id = docker.good(&["inspect", "--format", "{{.Id}}", "noted"])?;
    let pid = docker.good(&["inspect", "--format", "{{.State.Pid}}", "noted"])?;
    let (own, forged) = (cgroup_of(&pid)?, forged(&scene.lab, &id)?);
    let stop = |signal: &str| -> Result<()> {
        let mut kill = std::process::Command::new("kill");
        kill.args([signal, &docker.daemon.id().to_string()]);
        ensure!(
            kill.status().is_ok_and(|status| status.success()),
            "{signal}"
        );
        Ok(())
    };
    stop("-STOP")?;
    let netns = format!("/proc/{pid}/ns/net");
    let known = psql_in(&scene.lab, &own, &netns);
    // In a network that is nobody's: in a workload's, a process is the workload's.
    let stranger = psql_in(&scene.lab, &forged, &scene.lab.name("LAB_LAPTOP_NETNS")?);
    stop("-CONT")?;
    let (known, stranger) = (known?, stranger?);
    fs::remove_dir(&forged).with_context(|| forged.display().to_string())?;
    ensure!(served(&known), "a known container: {known:?}");
    ensure!(refused(&stranger), "a forged name: {stranger:?}");
    Ok(())
}

fn cgroup_of(pid: &str) -> Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).context("its cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.context("a cgroup of v2")?;
    Ok(tree()?.join(path.trim_start_matches('/')))
}

/// Named like a container's, but not where its runtime makes them.
fn forged(lab: &Lab, id: &str) -> Result<PathBuf> {
    let governed = lab.name("LAB_CGROUP_GOVERNED")?;
    let path = tree()?
        .join(governed.trim_start_matches('/'))
        .join(format!("docker-{id}.scope"));
    fs::create_dir(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

#[test]
fn podman_containers_are_governed_by_label() -> Result<()> {
    let scene = scene()?;
    let podman = Engine::podman(&scene.lab)?;
    let agent = ["--label", "app=docked"];
    let ask = || scene.client(&podman, &agent);
    comes("an agent's container is served", ask, served)?;
    // Not known yet is nobody's either, and refused: its network may be late (see above).
    let other = || scene.client(&podman, &["--label", "app=other"]);
    comes("a container of nobody", other, reached_directly)
}
