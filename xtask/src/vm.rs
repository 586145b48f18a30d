//! `cargo xtask vm`: the kernel tier on kernels that this machine does not run.
//!
//! Debian's own kernels under qemu, by emulation: slow, the same everywhere, and without need of
//! `/dev/kvm`. The guest runs the very test binaries that the tier `kernel` runs here.

mod base;
mod boot;
mod guest;
mod kernels;
mod modules;
mod programs;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::{place, say, setup};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask vm 6.1 6.12\n  cargo xtask vm --list\n  \
    cargo xtask vm 6.1 --only bypass"
)]
pub(crate) struct VmArgs {
    /// Kernel lines, such as 6.1; the newest version that apt knows of each is taken
    #[arg(value_name = "LINE")]
    lines: Vec<String>,
    /// Say which lines there are, and stop
    #[arg(long)]
    list: bool,
    /// Only tests whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Seconds that one kernel may take
    #[arg(long, default_value_t = 3600)]
    limit: u64,
}

/// Package and the program that shows that it is there.
const PACKAGES: [(&str, &str); 7] = [
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("busybox-static", "busybox"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("xz-utils", "xz"),
    ("kmod", "depmod"),
    ("binutils", "strip"),
];

/// Exit 0 when every test passed on every kernel.
pub(crate) fn run(args: &VmArgs) -> Result<ExitCode> {
    let offered = kernels::offered()?;
    if args.list {
        for kernel in &offered {
            say::result(format!("{:8} {}", kernel.line, kernel.package));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.lines.is_empty() {
        bail!("which kernels? `cargo xtask vm --list` names them");
    }
    let mut chosen = Vec::new();
    for line in &args.lines {
        match offered.iter().find(|kernel| kernel.line == *line) {
            Some(kernel) => chosen.push(kernel.clone()),
            None => bail!("apt knows no kernel {line}; `cargo xtask vm --list` names what it does"),
        }
    }
    place::need_root("cargo xtask vm")?;
    setup::also(&PACKAGES)?;
    let programs = programs::build(args.only.as_deref())?;
    let base = base::archive(&programs)?;
    let mut reports = Vec::new();
    for kernel in &chosen {
        let unpacked = kernels::fetch(kernel)?;
        let modules = modules::archive(kernel, &unpacked)?;
        let run = boot::Run {
            kernel,
            image: unpacked.join(format!("boot/vmlinuz-{}", kernel.release())),
            archives: [base.clone(), modules],
            limit: Duration::from_secs(args.limit),
            tests: programs.tests.len(),
        };
        let report = boot::boot(&run)?;
        report.print(&programs.tests);
        reports.push(report);
    }
    Ok(report::summary(&reports, programs.tests.len()))
}
