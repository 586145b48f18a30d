//! What this kernel can do, found out by doing it.

use std::os::fd::AsFd;

use weir_abi::names;

use crate::system::loader_for_probe;
use crate::{lineage, object, sys};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub what: String,
    pub works: bool,
    /// Weir does not start without it.
    pub required: bool,
    pub detail: String,
}

/// Loads every program into the kernel (attaching none) and says which were taken. Needs root.
#[must_use]
pub fn probe() -> Vec<Probe> {
    if object::bytes().is_empty() {
        return vec![Probe {
            what: "object".to_owned(),
            works: false,
            required: true,
            detail: "this binary was built with WEIR_SKIP_EBPF".to_owned(),
        }];
    }
    let mut ebpf = match loader_for_probe() {
        Ok(ebpf) => ebpf,
        Err(error) => {
            return vec![Probe {
                what: "maps".to_owned(),
                works: false,
                required: true,
                detail: error.to_string(),
            }];
        }
    };
    let mut findings = vec![Probe {
        what: "maps".to_owned(),
        works: true,
        required: true,
        detail: "created".to_owned(),
    }];
    let mut tcx = false;
    for (name, program) in ebpf.programs_mut() {
        let loaded = crate::system::load_program(program);
        if let (names::DEVICE_EGRESS, Ok(fd)) = (name, program.fd()) {
            tcx = sys::has_tcx(fd.as_fd());
        }
        findings.push(Probe {
            what: format!("program {name}"),
            works: loaded.is_ok(),
            required: !names::OPTIONAL.contains(&name),
            detail: match loaded {
                Ok(()) => "loads".to_owned(),
                Err(error) => error.to_string(),
            },
        });
    }
    findings.push(device_links(tcx));
    for (name, tried) in lineage::try_load() {
        findings.push(Probe {
            what: format!("program {name}"),
            works: tried.is_ok(),
            required: false,
            detail: match tried {
                Ok(()) => "loads".to_owned(),
                Err(error) => format!("process lineage is less: {error}"),
            },
        });
    }
    findings
}

fn device_links(tcx: bool) -> Probe {
    let detail = if tcx {
        "the allow-list on devices is a pinned link"
    } else {
        "before Linux 6.6 the allow-list on devices is a clsact filter: a workload with CAP_NET_ADMIN \
         over its network namespace can take it away, until the broker puts it back (200 ms)"
    };
    Probe {
        what: "tcx".to_owned(),
        works: tcx,
        required: false,
        detail: detail.to_owned(),
    }
}
