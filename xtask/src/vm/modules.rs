//! The modules that a guest may need, with all they depend on, as an archive of their own.
//!
//! All are loaded: the back-stop's `clsact`, and the protocols that recipes try to get around with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernels::Kernel;
use crate::{place, run};

/// Without these nothing can be tried; the others are what recipes try to get around with.
const NEEDED: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];
const TRIED: [&str; 18] = [
    "sctp",
    "dccp_ipv4",
    "dccp_ipv6",
    "8021q",
    "tun",
    "dummy",
    "macvlan",
    "ipvlan",
    "smc",
    "tipc",
    "rds_tcp",
    "ip_gre",
    "ipip",
    "sit",
    "ip6_tunnel",
    "l2tp_ip",
    "vsock",
    "tcp_diag",
];

/// Made anew each time: it takes a second, and nothing can be stale.
pub(super) fn archive(kernel: &Kernel, unpacked: &Path) -> Result<PathBuf> {
    let below = PathBuf::from("lib/modules").join(kernel.release());
    let folder = unpacked.join(&below);
    let text = fs::read_to_string(folder.join("modules.dep")).context("modules.dep")?;
    let wanted = closure(&text)?;
    let root = place::target().join("vm").join(&kernel.line);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    for module in &wanted {
        let from = folder.join(module);
        let plain = module.strip_suffix(".xz").unwrap_or(module);
        let to = root.join(&below).join(plain);
        fs::create_dir_all(to.parent().context("a folder")?).context("a folder of modules")?;
        if plain == module {
            fs::copy(&from, &to).with_context(|| format!("copying {module}"))?;
        } else {
            let output = Command::new("xz").arg("-dc").arg(&from).output()?;
            if !output.status.success() {
                bail!("xz cannot read {}", from.display());
            }
            fs::write(&to, output.stdout).with_context(|| format!("writing {module}"))?;
        }
    }
    for name in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        fs::copy(folder.join(name), root.join(&below).join(name)).context(name)?;
    }
    let mut depmod = Command::new("depmod");
    run::quiet(depmod.arg("-b").arg(&root).arg(kernel.release()))?;
    fs::create_dir_all(root.join("weir")).context("the list of modules")?;
    let names: BTreeSet<String> = wanted.iter().map(|file| stem(file)).collect();
    let names: Vec<String> = names.into_iter().collect();
    fs::write(root.join("weir/modules"), names.join("\n")).context("the list of modules")?;
    super::base::pack(&root, &root.with_extension("cpio.zst"))
}

/// Files below the folder of modules.
fn closure(dep: &str) -> Result<BTreeSet<String>> {
    let mut files: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for line in dep.lines() {
        let Some((file, needs)) = line.split_once(':') else {
            continue;
        };
        files.insert(stem(file), (file, needs.split_whitespace().collect()));
    }
    let mut wanted = BTreeSet::new();
    for name in NEEDED.into_iter().chain(TRIED) {
        match files.get(name) {
            // modules.dep lists whatever is needed, near and far.
            Some((file, needs)) => {
                wanted.insert((*file).to_owned());
                wanted.extend(needs.iter().map(|need| (*need).to_owned()));
            }
            None if NEEDED.contains(&name) => bail!("this kernel has no module {name}"),
            None => {}
        }
    }
    Ok(wanted)
}

/// `kernel/net/sched/cls_bpf.ko.xz` is `cls_bpf`.
fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/net/veth.ko.xz:\n\
        kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n\
        kernel/net/sched/sch_ingress.ko.xz:\n\
        kernel/net/sched/cls_bpf.ko.xz:\n\
        kernel/net/llc/llc.ko.xz:\n\
        kernel/net/sctp/sctp.ko.xz: kernel/lib/libcrc32c.ko.xz\n";

    #[test]
    fn what_a_module_needs_comes_along_and_a_missing_one_is_an_error() {
        let wanted = closure(DEP).unwrap();
        assert!(wanted.contains("kernel/net/llc/llc.ko.xz"));
        assert!(wanted.contains("kernel/lib/libcrc32c.ko.xz"));
        assert_eq!(wanted.len(), 8);
        assert!(closure(&DEP.replace("cls_bpf", "cls_other")).is_err());
    }
}
