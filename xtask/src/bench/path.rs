//! `bench path`: the same pgbench over three paths.
//!
//! Weir's client runs in the operator's namespace and cgroup and is intercepted there. The other
//! two run in an ungoverned namespace of the same shape on the same bridge; the byte-copying proxy
//! listens on an address of its client's own namespace, as Weir does. None of the three uses TLS:
//! both clients are told not to, and the lab's configuration has none towards the server.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::PathArgs;
use super::ratio::{Cpu, Rounds};
use crate::binaries::{self, Profile};
use crate::lab::{self, Lab, up};
use crate::{place, run, say};

const NAME: &str = "bench-path";
/// Select and write by one key: the work of the server is small, so that the path shows.
const SCRIPTS: [(&str, &str); 2] = [
    (
        "select",
        "\\set aid random(1, 10000)\nselect abalance from bench_accounts where aid = :aid;\n",
    ),
    (
        "update",
        "\\set aid random(1, 10000)\n\
         update bench_accounts set abalance = abalance + 1 where aid = :aid;\n",
    ),
];
const MODES: [&str; 3] = ["simple", "extended", "prepared"];
const TABLE: &str =
    "create table bench_accounts (aid integer primary key, abalance integer not null);
    insert into bench_accounts select i, 0 from generate_series(1, 10000) i;
    alter table bench_accounts owner to weir_app;
    analyze bench_accounts;";

pub(super) fn run(args: &PathArgs) -> Result<ExitCode> {
    place::need_root("bench path")?;
    let folder = binaries::packages(&["weir-copyproxy"], Profile::Release)?;
    let mut up_args = up::default_args(NAME);
    up_args.release = true;
    up_args.plain_database = true;
    let lab = up::up(&up_args)?;
    let outcome = measure(
        &lab,
        args,
        &folder.join("weir-copyproxy").display().to_string(),
    );
    lab::down(&lab)?;
    let results = outcome?;
    report(args, &results)
}

fn measure(lab: &Lab, args: &PathArgs, proxy: &str) -> Result<BTreeMap<String, Rounds>> {
    let database = &lab.database;
    run::quiet(
        Command::new("psql")
            .args(["-Xq", "-U", "postgres", "-d", &database.name, "-c", TABLE])
            .args(["-h".as_ref(), database.socket_dir.as_os_str()])
            .current_dir("/"),
    )?;
    let scripts = place::target().join("xtask-logs/bench");
    fs::create_dir_all(&scripts).context("a folder for scripts")?;
    for (name, text) in SCRIPTS {
        fs::write(scripts.join(name), text).context("writing a script")?;
    }
    let paths = lab::Paths::start(lab, proxy)?;
    let mut results: BTreeMap<String, Rounds> = BTreeMap::new();
    for (script, _) in SCRIPTS {
        for mode in MODES {
            for clients in &args.clients {
                let key = format!("{script} {mode} {clients}");
                let step = say::step(&key);
                let file = scripts.join(script).display().to_string();
                let pgbench = vec![
                    "env".to_owned(),
                    "PGSSLMODE=disable".to_owned(),
                    "pgbench".to_owned(),
                    "--no-vacuum".to_owned(),
                    format!("--protocol={mode}"),
                    format!("--client={clients}"),
                    format!("--time={}", args.seconds),
                    format!("--file={file}"),
                ];
                let mut rounds = Rounds::default();
                for _round in 0..args.rounds {
                    rounds.direct.push(tps(&paths.direct(&pgbench)?)?);
                    let before = paths.cpu_s()?;
                    let copied = paths.copied(&pgbench)?;
                    let between = paths.cpu_s()?;
                    let governed = paths.governed(&pgbench)?;
                    let after = paths.cpu_s()?;
                    rounds.copy.push(tps(&copied)?);
                    rounds.weir.push(tps(&governed)?);
                    let (copied, governed) = (count(&copied)? / 1e5, count(&governed)? / 1e5);
                    rounds.cpu.push(Cpu {
                        copy: (between[0] - before[0]) / copied,
                        weir: (after[1] - between[1]) / governed,
                        store: (after[2] - between[2]) / governed,
                    });
                }
                let ratios = rounds.ratios();
                step.done(format!(
                    "direct {:.0}/s, copy {:.2}, weir {:.2}, weir/copy {:.2}",
                    ratios.direct_tps,
                    ratios.copy_to_direct,
                    ratios.weir_to_direct,
                    ratios.weir_to_copy
                ));
                results.insert(key, rounds);
            }
        }
    }
    Ok(results)
}

/// `tps = 1234.5 (without initial connection time)`
fn tps(output: &str) -> Result<f64> {
    let line = output.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = line
        .and_then(|rest| rest.split(' ').next())
        .and_then(|text| text.parse().ok());
    match number {
        Some(number) if number > 0.0 => Ok(number),
        _ => bail!("pgbench printed no tps:\n{output}"),
    }
}

/// `number of transactions actually processed: 1234`
fn count(output: &str) -> Result<f64> {
    let prefix = "number of transactions actually processed: ";
    let line = output.lines().find_map(|line| line.strip_prefix(prefix));
    let number = line.and_then(|rest| rest.split(['/', ' ']).next());
    match number.and_then(|text| text.parse().ok()) {
        Some(number) if number > 0.0 => Ok(number),
        _ => bail!("pgbench printed no count:\n{output}"),
    }
}

fn report(args: &PathArgs, results: &BTreeMap<String, Rounds>) -> Result<ExitCode> {
    say::result(format!(
        "{:24} {:>10} {:>12} {:>12} {:>10} {:>24}",
        "", "", "", "", "", "CPU s per 100k statements"
    ));
    say::result(format!(
        "{:24} {:>10} {:>12} {:>12} {:>10} {:>8} {:>7} {:>7}",
        "workload", "direct/s", "copy/direct", "weir/direct", "weir/copy", "copy", "weir", "store"
    ));
    let mut rows = Vec::new();
    for (key, rounds) in results {
        let ratios = rounds.ratios();
        say::result(format!(
            "{key:24} {:>10.0} {:>12.2} {:>12.2} {:>10.2} {:>8.2} {:>7.2} {:>7.2}",
            ratios.direct_tps,
            ratios.copy_to_direct,
            ratios.weir_to_direct,
            ratios.weir_to_copy,
            ratios.cpu.copy,
            ratios.cpu.weir,
            ratios.cpu.store
        ));
        rows.push(json!({ "workload": key, "ratios": ratios, "rounds": rounds }));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/path-{}.json", now.as_secs()));
    let report = json!({ "rounds": args.rounds, "seconds": args.seconds, "workloads": rows });
    let text = serde_json::to_string_pretty(&report).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    Ok(ExitCode::SUCCESS)
}
