//! What this kernel can do, found out by doing it.

use crate::system::loader_for_probe;
use crate::{lineage, object};

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
    for (name, program) in ebpf.programs_mut() {
        let loaded = crate::system::load_program(program);
        findings.push(Probe {
            what: format!("program {name}"),
            works: loaded.is_ok(),
            required: true,
            detail: match loaded {
                Ok(()) => "loads".to_owned(),
                Err(error) => error.to_string(),
            },
        });
    }
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
