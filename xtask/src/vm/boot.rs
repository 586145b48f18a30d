//! One guest, from its start to its report.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::guest::{self, Line};
use super::kernels::Kernel;
use super::report::Report;
use crate::{place, say};

/// Emulated memory, MiB: the root unpacked twice over, and the tests.
const MEMORY_MIB: &str = "1536";
const LINE_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Run<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) image: PathBuf,
    pub(super) archives: [PathBuf; 2],
    pub(super) limit: Duration,
    pub(super) tests: usize,
}

/// Boots and reads until the guest is off, or its limit is over.
pub(super) fn boot(run: &Run<'_>) -> Result<Report> {
    let step = say::step(format!("Linux {}", run.kernel.release()));
    let initrd = place::target().join(format!("vm/{}.initrd", run.kernel.line));
    let mut file = fs::File::create(&initrd).context("the initial root")?;
    for archive in &run.archives {
        let bytes = fs::read(archive).with_context(|| format!("{}", archive.display()))?;
        file.write_all(&bytes).context("the initial root")?;
    }
    drop(file);
    let log = place::target().join(format!("xtask-logs/vm-{}.log", run.kernel.line));
    fs::create_dir_all(log.parent().context("a folder for logs")?).context("making logs")?;
    let mut kept = fs::File::create(&log).context("the log")?;
    let started = Instant::now();
    let mut guest = Guest::start(run, &initrd)?;
    let mut report = Report::new(run.kernel, log);
    let ended = loop {
        let left = run.limit.saturating_sub(started.elapsed());
        match guest.lines.recv_timeout(left) {
            Ok(text) => {
                writeln!(kept, "{text}").context("the log")?;
                let line = guest::read(&text);
                say_where(&step, &line, &report, run.tests);
                report.take(line, &text);
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    guest.end();
    report.took = started.elapsed();
    report.in_time = ended;
    if report.good(run.tests) {
        step.done(format!("{} tests", report.ends.len()));
    }
    Ok(report)
}

fn say_where(step: &say::Step, line: &Line, report: &Report, tests: usize) {
    match line {
        Line::Up { release } => step.reached(&format!("{release} is up")),
        Line::Start(label) => step.reached(&format!("{}/{tests} {label}", report.ends.len() + 1)),
        Line::Recipe(recipe) => step.at(&format!("{} {}", recipe.phase, recipe.name)),
        Line::Doctor(_) | Line::End { .. } | Line::Done | Line::Other => {}
    }
}

struct Guest {
    child: Child,
    lines: Receiver<String>,
}

impl Guest {
    fn start(run: &Run<'_>, initrd: &std::path::Path) -> Result<Self> {
        let mut command = Command::new("qemu-system-x86_64");
        command
            // Two processors in turn: with a thread each, emulated kernels at times run into code that
            // is being patched (an int3 oops where a static key changes).
            .args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"])
            .args(["-m", MEMORY_MIB, "-nographic", "-no-reboot", "-nodefaults"])
            .args(["-serial", "stdio", "-kernel"])
            .arg(&run.image)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting qemu")?;
        let output = child.stdout.take().context("the serial line")?;
        let (sender, lines) = sync_channel(1024);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut bytes = Vec::new();
            while let Ok(count) = reader.read_until(b'\n', &mut bytes) {
                if count == 0 {
                    return;
                }
                bytes.truncate(LINE_BYTES_MAX);
                let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                bytes.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn end(&mut self) {
        // Off already is as good.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}
