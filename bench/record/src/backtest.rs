//! `weir policy backtest` over a week of recorded statements, compared with what is known of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use weir_record::{Durability, SpoolConfig, SpoolDir, migrate};

use crate::asked::{Asker, BEFORE, CANDIDATE, Truth};
use crate::store::{Store, address, free_address, say, shipper, until_stored};
use crate::{Parts, now};

const LANES: u32 = 2;
/// Facts of one commit.
const TURN: u64 = 64;
const WEEK_US: i64 = 7 * 86_400 * 1_000_000;

pub(crate) struct Arguments {
    pub(crate) parts: Parts,
    pub(crate) weir: PathBuf,
    pub(crate) statements: u64,
    /// Different numbers behind LIMIT, which policy sees: more of them, more different requests.
    pub(crate) limits: u64,
    /// Requests that Cedar alone decides as well, one by one.
    pub(crate) checked: u64,
}

pub(crate) fn measure(arguments: &Arguments) -> Result<Value> {
    crate::runtime()?.block_on(whole(arguments))
}

async fn whole(arguments: &Arguments) -> Result<Value> {
    let folder = &arguments.parts.folder;
    let listen = free_address()?;
    let store = Store::start(&arguments.parts, &listen)?;
    let admin = address(&listen, "migrator").client();
    let migrated = migrate::migrate(&admin, "weir", migrate::Layout::Local).await;
    migrated.map_err(anyhow::Error::msg)?;
    let spool = SpoolDir::open(SpoolConfig {
        directory: folder.join("spool"),
        key_file: folder.join("node.key"),
        limit_bytes: 64 << 30,
        durability: Durability::Process,
    })?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipping = tokio::spawn(shipper(&spool, &listen)?.run(stopped));
    let started = now();
    let truth = record(&spool, arguments)?;
    let reader = address(&listen, "reader").client();
    until_stored(&reader, truth.requests).await?;
    let stored_s = started.elapsed().as_secs_f64();
    stop.send(true)?;
    shipping.await.context("the shipper")?;
    say(&format!(
        "{} requests stored in {stored_s:.0} s",
        truth.requests
    ));

    configure(arguments, &listen)?;
    let (first, wall_s) = backtest(arguments, 0)?;
    let memory = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let wrong = differences(&first, &truth)?;
    let (checked, checked_s) = backtest(arguments, arguments.checked)?;
    let of = |name: &str| checked.get(name).and_then(Value::as_u64).context("a count");
    Ok(json!({
        "statements": truth.requests, "different": first["different"], "changed": first["changed"],
        "changes": truth.changed.len(), "masked": truth.masked, "wrong": wrong,
        "seconds": first["seconds"], "wall_s": wall_s, "peak_bytes": memory * 1024,
        "store_peak_bytes": store.memory_peak()?, "stored_s": stored_s,
        "checked": of("checked")?, "mismatched": of("mismatched")?, "checked_wall_s": checked_s,
    }))
}

/// Both lanes at once, as fast as they go; over the last week by their own word.
fn record(spool: &SpoolDir, arguments: &Arguments) -> Result<Truth> {
    let (each, limits) = (arguments.statements / u64::from(LANES), arguments.limits);
    let from_us = weir_clock::now().wall_us - WEEK_US;
    let step_us = WEEK_US / i64::try_from(each.max(1))?;
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..LANES {
            let mut lane = spool.lane(index, weir_clock::now())?;
            threads.push(scope.spawn(move || -> Result<Truth> {
                let mut asker = Asker::new(index, limits)?;
                for number in 0..each {
                    let at_us = from_us + step_us * i64::try_from(number)?;
                    let number = number * u64::from(LANES) + u64::from(index);
                    lane.push(&asker.next(number, at_us)?)?;
                    if number % TURN < u64::from(LANES) {
                        lane.commit(weir_clock::now())?;
                    }
                }
                lane.commit(weir_clock::now())?;
                lane.close(weir_clock::now())?;
                Ok(asker.truth)
            }));
        }
        let mut truth = Truth::default();
        for thread in threads {
            let lane = thread.join();
            truth.join(lane.map_err(|_panic| anyhow::anyhow!("a lane panicked"))??);
        }
        Ok(truth)
    })
}

fn configure(arguments: &Arguments, listen: &str) -> Result<()> {
    let folder = &arguments.parts.folder;
    for (name, texts) in [
        ("now", &[BEFORE][..]),
        ("candidate", &[BEFORE, CANDIDATE][..]),
    ] {
        std::fs::create_dir(folder.join(name))?;
        std::fs::write(folder.join(name).join("10-all.cedar"), texts.concat())?;
    }
    let text = format!(
        r#"
version: 1
node: {{ name: n1, cluster: lab, user: nobody, cgroup: /weir, governed: /agents }}
identity:
  authority: http://127.0.0.1:9443
  allow_plain_loopback: true
  tenants: ["11111111-1111-4111-8111-111111111111"]
  audience: "22222222-2222-4222-8222-222222222222"
  required_role: Agent.Connect
workloads:
  - name: analyst
    cgroup: /agents/analyst
    identity:
      kind: federated
      tenant: "11111111-1111-4111-8111-111111111111"
      client_id: "33333333-3333-4333-8333-333333333333"
      token_file: token
targets:
  - name: demo
    protocol: postgres
    match: {{ hosts: ["10.77.0.10"], ports: [5432] }}
    credential: {{ user: weir_app, password_file: pw }}
policies: {{ directory: now }}
record: {{ clickhouse: {{ url: "http://{listen}", token_file: writer, reader_token_file: reader }} }}
approvals: {{ reviewer_groups: {{ dba: "44444444-4444-4444-8444-444444444444" }} }}
"#
    );
    std::fs::write(folder.join("weir.yaml"), text).context("the configuration")
}

/// The command's answer and its seconds, start and end of the process included.
fn backtest(arguments: &Arguments, checked: u64) -> Result<(Value, f64)> {
    let folder = &arguments.parts.folder;
    let started = now();
    let output = Command::new(&arguments.weir)
        .args(["policy", "backtest", "--since", "8d", "--json", "--check"])
        .arg(checked.to_string())
        .arg("--config")
        .arg(folder.join("weir.yaml"))
        .arg("--candidate")
        .arg(folder.join("candidate"))
        .output()
        .context("starting weir")?;
    let wall_s = started.elapsed().as_secs_f64();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weir policy backtest: {error}");
    let answer = serde_json::from_slice(&output.stdout).context("its answer")?;
    say(&format!("backtest with {checked} checked: {wall_s:.1} s"));
    Ok((answer, wall_s))
}

/// How many changes are missing, too many or of another number.
fn differences(answer: &Value, truth: &Truth) -> Result<u64> {
    let of = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).context("a count");
    let mut found: BTreeMap<(String, u64, String, String), u64> = BTreeMap::new();
    for change in answer["changes"].as_array().context("changes")? {
        let text = |name: &str| {
            change
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let key = (
            text("workload"),
            of(change, "shape")?,
            text("to"),
            text("to_rule"),
        );
        *found.entry(key).or_default() += of(change, "requests")?;
    }
    let mut wrong = 0;
    for key in truth.changed.keys().chain(found.keys()) {
        wrong += u64::from(truth.changed.get(key) != found.get(key));
    }
    let mut masked = 0;
    for duty in answer["duties"].as_array().context("duties")? {
        masked += of(duty, "requests")?;
    }
    let changed: u64 = truth.changed.values().sum();
    for (known, said) in [
        (truth.masked, masked),
        (truth.requests, of(answer, "requests")?),
        (changed, of(answer, "changed")?),
        (truth.requests - changed, of(answer, "unchanged")?),
        (0, of(answer, "drifted")?),
        (0, of(answer, "unlisted_changes")?),
    ] {
        wrong += u64::from(known != said);
    }
    Ok(wrong)
}
