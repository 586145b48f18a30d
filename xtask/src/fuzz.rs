//! `cargo xtask fuzz`: libFuzzer over everything that reads what others wrote.
//!
//! The targets are one program in a workspace of its own (`tests/fuzz/`), instrumented by the pinned
//! toolchain. Without a sanitizer: the crates that are fuzzed forbid unsafe code.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{place, run, say};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz --all --seconds 60\n  cargo xtask fuzz postgres-sql --seconds 600\n\n\
    What was found is kept in target/fuzz/found; run it again with\n  \
    WEIR_FUZZ_TARGET=postgres-sql target/fuzz/release/weir-fuzz FILE"
)]
pub(crate) struct FuzzArgs {
    /// Targets: see `tests/fuzz/src/main.rs`
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    targets: Vec<String>,
    /// Every target
    #[arg(long)]
    all: bool,
    /// For each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that run at once; as many as there are processors, when not said
    #[arg(long)]
    jobs: Option<usize>,
}

/// A target under way.
struct Job {
    target: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

/// Builds the targets and runs them; the exit code is 1 when something was found.
pub(crate) fn run(args: &FuzzArgs) -> Result<ExitCode> {
    let known = known()?;
    let chosen = if args.all {
        known.clone()
    } else {
        args.targets.clone()
    };
    if let Some(stray) = chosen.iter().find(|name| !known.contains(name)) {
        bail!("no target '{stray}'; there are {}", known.join(" "));
    }
    let program = build()?;
    let folder = place::target().join("fuzz");
    seed(&folder)?;
    let jobs = args
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let mut waiting: VecDeque<String> = chosen.into();
    let mut running: Vec<Job> = Vec::new();
    let mut failed = 0;
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < jobs.max(1)
            && let Some(target) = waiting.pop_front()
        {
            running.push(start(&program, &folder, target, args.seconds)?);
        }
        let mut going = Vec::new();
        for mut job in running {
            match job.child.try_wait().context("waiting for a target")? {
                Some(status) => failed += u32::from(!judge(&job, status.success())?),
                None => going.push(job),
            }
        }
        running = going;
        std::thread::sleep(Duration::from_millis(100));
    }
    say::result(if failed == 0 {
        "clean".to_owned()
    } else {
        format!("{failed} targets failed")
    });
    Ok(ExitCode::from(u8::from(failed != 0)))
}

/// The names in the table of targets.
fn known() -> Result<Vec<String>> {
    let path = place::root().join("tests/fuzz/src/main.rs");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let names = text.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("(\"")?;
        Some(name.split_once('"')?.0.to_owned())
    });
    Ok(names.collect())
}

fn build() -> Result<PathBuf> {
    let step = say::step("build the targets");
    let target = place::target().join("fuzz");
    let mut command = run::cargo();
    command
        // Not --locked: what Weir's crates depend on is added by cargo, at the versions of the lock file.
        .args(["build", "--release", "--color", "never"])
        .arg("--manifest-path")
        .arg(place::root().join("tests/fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTC_WRAPPER", place::root().join("tests/fuzz/rustc.sh"));
    run::logged(
        &step,
        &place::target().join("xtask-logs/fuzz-build.log"),
        &mut command,
    )?;
    step.done("");
    Ok(target.join("release/weir-fuzz"))
}

/// Statements of the leak corpus, so that the classifier starts with SQL.
fn seed(folder: &Path) -> Result<()> {
    let corpus = folder.join("corpus/postgres-sql");
    fs::create_dir_all(&corpus).context("a folder for the corpus")?;
    let files = fs::read_dir(place::root().join("tests/leak/corpus")).context("statements")?;
    for file in files {
        let text = fs::read_to_string(file.context("statements")?.path()).context("statements")?;
        for (number, line) in text.lines().enumerate() {
            let name = format!("seed-{}-{number}", text.len());
            fs::write(corpus.join(name), line.replace('X', "ssn")).context("a seed")?;
        }
    }
    Ok(())
}

fn start(program: &Path, folder: &Path, target: String, seconds: u64) -> Result<Job> {
    let corpus = folder.join("corpus").join(&target);
    let found = folder.join("found");
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).context("a folder")?;
    }
    let log = place::target().join(format!("xtask-logs/fuzz-{target}.log"));
    let file = fs::File::create(&log).context("a log")?;
    let child = Command::new(program)
        .env("WEIR_FUZZ_TARGET", &target)
        .arg(format!("-max_total_time={seconds}"))
        .args([
            "-timeout=20",
            "-rss_limit_mb=3072",
            "-max_len=4096",
            "-print_final_stats=1",
        ])
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        .arg(&corpus)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    Ok(Job {
        target,
        child,
        log,
        started: Instant::now(),
    })
}

/// Says what came of a target.
fn judge(job: &Job, clean: bool) -> Result<bool> {
    let text = String::from_utf8_lossy(&fs::read(&job.log).context("a log")?).into_owned();
    let stat = |name: &str| {
        let line = text.lines().rev().find(|line| line.contains(name));
        line.and_then(|line| line.split_whitespace().last())
            .unwrap_or("?")
            .to_owned()
    };
    let took = say::seconds(job.started.elapsed());
    let runs = stat("stat::number_of_executed_units");
    say::result(format!(
        "{:22} {:8} {runs:>10} runs {took:>9}",
        job.target,
        if clean { "clean" } else { "FAILED" }
    ));
    if !clean {
        say::note(format!("log {}\n{}", job.log.display(), run::tail(&text)));
    }
    Ok(clean)
}
