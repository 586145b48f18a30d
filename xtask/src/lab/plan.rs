//! Where everything of a lab will be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cluster::Cluster;
use super::host::Host;
use super::model::{Agent, Database, LABS, Lab, Outside, RUNS};
use super::{agents, network};
use crate::place;

/// A lab of that name, of which nothing is made yet.
pub(super) fn plan(name: &str, number: u8) -> Result<Lab> {
    let state_dir = Path::new(LABS).join(name);
    let run_dir = Path::new(RUNS).join(name);
    let secrets = state_dir.join("secrets");
    let cgroup = format!("/weir-lab-{name}");
    let netns = |part: &str| PathBuf::from(format!("/run/netns/weir-{name}-{part}"));
    let agents: BTreeMap<String, Agent> = agents::NAMES
        .iter()
        .zip(network::FIRST_AGENT..)
        .map(|(agent, host)| {
            let made = Agent {
                addresses: network::addresses(number, host),
                netns: netns(agent),
                cgroup: format!("{cgroup}/{}/{agent}", agents::GOVERNED),
                host_device: format!("weir{number}a{host}"),
                token_file: secrets.join(format!("token-{agent}")),
                client_id: String::new(),
            };
            ((*agent).to_owned(), made)
        })
        .collect();
    Ok(Lab {
        name: name.to_owned(),
        number,
        bridge: network::bridge(number),
        host: network::addresses(number, network::HOST),
        pins: PathBuf::from(format!("/sys/fs/bpf/weir-lab-{name}")),
        cgroup_mount: place::cgroup2()?,
        cgroup,
        database: Database::plan(number, netns("db"), &state_dir, &run_dir),
        cluster: Cluster::plan(number, &state_dir),
        ssh_host: Host::plan(&state_dir),
        agents,
        outside: Outside {
            addresses: network::addresses(number, network::OUTSIDE),
            netns: netns("out"),
        },
        entra: None,
        store: None,
        weir: None,
        console: None,
        processes: BTreeMap::new(),
        state_dir,
        run_dir,
    })
}

impl Database {
    fn plan(number: u8, netns: PathBuf, state_dir: &Path, run_dir: &Path) -> Self {
        Self {
            addresses: network::addresses(number, network::DATABASE),
            port: 5432,
            netns,
            name: "shop".to_owned(),
            user: "weir_app".to_owned(),
            password_file: state_dir.join("secrets/db-password"),
            ca_file: state_dir.join("database.pem"),
            tls: true,
            socket_dir: run_dir.join("postgres"),
            log: state_dir.join("log/postgres.log"),
        }
    }
}
