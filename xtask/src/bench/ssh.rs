//! `bench ssh`: bytes both ways, files both ways, and short commands.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::PairArgs;
use super::pair::{self, TIMED, Workload};
use crate::lab::Lab;

/// Of one transfer.
const MIB: u32 = 256;

pub(super) fn run(args: &PairArgs) -> Result<ExitCode> {
    pair::run("ssh", args, workloads)
}

fn workloads(lab: &Lab) -> Result<Vec<Workload>> {
    let host = &lab.ssh_host;
    let line = "2026-11-24T10:00:00Z app[17]: order 4711 of customer 42 was paid in 12 ms\n";
    let lines = usize::try_from(MIB * 1024 * 1024).context("a size")? / line.len();
    fs::write(host.home.join("long.log"), line.repeat(lines)).context("a long log")?;
    let known = lab.state_dir.join("bench_known_hosts");
    let keys = fs::read_to_string(&host.keys_file).context("the host's key")?;
    let address = lab.database.addresses.v4;
    fs::write(&known, format!("{address} {keys}")).context("known hosts")?;
    // Straight to the host, as somebody who has its key.
    let options = format!(
        "-F /dev/null -o User={} -o IdentityFile={} -o UserKnownHostsFile={}",
        host.account,
        host.key_file.display(),
        known.display()
    );
    let both = |name, work, unit, script: &str| Workload {
        name,
        work,
        unit,
        direct: format!("{TIMED}o='{options}'; h={address}\n{script}"),
        governed: format!("{TIMED}o='-o BatchMode=yes'; h={address}\n{script}"),
    };
    let size = f64::from(MIB);
    let master = "d=$(mktemp -d); ssh $o -M -S $d/m -fN $h; trap 'ssh -S $d/m -O exit $h 2>/dev/null; rm -r $d' EXIT\n";
    Ok(vec![
        both("output", size, "MiB", "timed ssh $o $h 'cat long.log'"),
        both(
            "output, aes128-gcm",
            size,
            "MiB",
            "timed ssh $o -c aes128-gcm@openssh.com $h 'cat long.log'",
        ),
        both(
            "input",
            size,
            "MiB",
            &format!("f() {{ head -c {MIB}M /dev/zero | ssh $o $h 'wc -c'; }}; timed f"),
        ),
        both(
            "sftp get",
            size,
            "MiB",
            "d=$(mktemp -d); trap 'rm -r $d' EXIT\n\
             f() { echo \"get long.log $d/x\" | sftp -q $o -b - $h; }; timed f",
        ),
        both(
            "sftp put",
            size,
            "MiB",
            &format!(
                "d=$(mktemp -d); trap 'rm -r $d' EXIT; head -c {MIB}M /dev/zero > $d/x\n\
                 f() {{ echo \"put $d/x put.bin\" | sftp -q $o -b - $h; }}; timed f"
            ),
        ),
        both(
            "connect and run",
            1.0,
            "commands",
            "for i in $(seq 20); do timed ssh $o $h true; done",
        ),
        both(
            "run on one connection",
            1.0,
            "commands",
            &format!("{master}for i in $(seq 40); do timed ssh -S $d/m $h true; done"),
        ),
    ])
}
