//! One bridge per lab; a namespace with `eth0` for the database and for each agent.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::model::{Addresses, Lab};

/// Host part of the database's address, as in 10.77.N.10.
pub(crate) const DATABASE: u8 = 10;
/// Host part of the first agent's address.
pub(crate) const FIRST_AGENT: u8 = 21;
/// Host part of the ungoverned namespace's address.
pub(crate) const OUTSIDE: u8 = 31;
/// Host part of the bridge's own address.
pub(crate) const HOST: u8 = 1;

/// Addresses of a part of lab `number`; the IPv6 host part reads like the IPv4 one.
pub(crate) fn addresses(number: u8, host: u8) -> Addresses {
    let as_read = u16::from_str_radix(&host.to_string(), 16).unwrap_or(0xffff);
    Addresses {
        v4: Ipv4Addr::new(10, 77, number, host),
        v6: Ipv6Addr::new(0xfd77, u16::from(number), 0, 0, 0, 0, 0, as_read),
    }
}

/// Makes the bridge and every namespace.
pub(crate) fn make(lab: &Lab) -> Result<()> {
    let bridge = &lab.bridge;
    let Addresses { v4, v6 } = lab.host;
    let mut host = format!(
        "link add {bridge} type bridge forward_delay 0 mcast_snooping 0\n\
         addr add {v4}/24 dev {bridge}\n\
         addr add {v6}/64 dev {bridge} nodad\n\
         link set {bridge} up\n"
    );
    let mut inside = Vec::new();
    for (name, device, addresses) in parts(lab) {
        host.push_str(&format!(
            "netns add {name}\n\
             link add {device} type veth peer name eth0 netns {name}\n\
             link set {device} master {bridge} up\n"
        ));
        let Addresses { v4, v6 } = addresses;
        let (via4, via6) = (lab.host.v4, lab.host.v6);
        inside.push((
            name,
            format!(
                "link set lo up\n\
                 addr add {v4}/24 dev eth0\n\
                 addr add {v6}/64 dev eth0 nodad\n\
                 link set eth0 up\n\
                 route add default via {via4}\n\
                 route add ::/0 via {via6}\n"
            ),
        ));
    }
    batch(&[], &host)?;
    for (name, commands) in inside {
        batch(&["-n", &name], &commands)?;
    }
    Ok(())
}

fn parts(lab: &Lab) -> Vec<(String, String, Addresses)> {
    let database = (
        lab.netns_name("db"),
        format!("weir{}db", lab.number),
        lab.database.addresses,
    );
    let agents = lab.agents.iter().map(|(name, agent)| {
        (
            lab.netns_name(name),
            agent.host_device.clone(),
            agent.addresses,
        )
    });
    let outside = (
        lab.netns_name("out"),
        format!("weir{}out", lab.number),
        lab.outside.addresses,
    );
    [database, outside].into_iter().chain(agents).collect()
}

/// Removes what [`make`] made; what is missing already is no error.
pub(crate) fn remove(lab: &Lab) -> Result<()> {
    for (name, device, _) in parts(lab) {
        if exists(&device) {
            batch(&[], &format!("link del {device}\n"))?;
        }
        if Path::new("/run/netns").join(&name).exists() {
            batch(&[], &format!("netns del {name}\n"))?;
        }
    }
    if exists(&lab.bridge) {
        batch(&[], &format!("link del {}\n", lab.bridge))?;
    }
    Ok(())
}

fn exists(device: &str) -> bool {
    Path::new("/sys/class/net").join(device).exists()
}

/// Whether a bridge of that number is on the host, whoever made it.
pub(crate) fn number_is_free(number: u8) -> bool {
    !exists(&bridge(number))
}

pub(crate) fn bridge(number: u8) -> String {
    format!("weir{number}")
}

fn batch(before: &[&str], commands: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(before)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(commands.as_bytes())
            .context("writing to ip")?;
    }
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            before.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_read_alike() {
        let db = addresses(3, DATABASE);
        assert_eq!(db.v4.to_string(), "10.77.3.10");
        assert_eq!(db.v6.to_string(), "fd77:3::10");
    }
}
