//! Who is let in, for how long, and how that ends.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::live::{Live, ended_after_ms, session, session_ends};
use weir_e2e::until;

#[test]
fn every_way_to_sign_in_reaches_the_database() -> Result<()> {
    let lab = Lab::current()?;
    for (agent, evidence) in [
        ("analyst", "federated"),
        ("service", "certificate"),
        ("machine", "managed"),
        ("agent", "agent_id"),
        ("guest", "federated"),
        ("batch", "client_secret"),
    ] {
        let said = lab.psql(agent, "select count(*) from customers;")?;
        assert_eq!(said.code, 0, "{agent}: {said:?}");
        let sql = format!(
            "select count() > 0 from weir.fact where workload = '{agent}' and evidence = '{evidence}'"
        );
        until("the record", Duration::from_secs(20), || {
            Ok((lab.store(&sql)?.trim() == "1").then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn a_process_tree_of_nobody_is_told_to_use_weir_run() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql("laptop", "select 1;")?;
    assert!(said.has("could not be signed in"), "{said:?}");
    assert_ne!(said.code, 0);
    Ok(())
}

#[test]
fn disabling_an_identity_ends_its_live_session_within_the_cadence() -> Result<()> {
    let lab = Lab::current()?;
    let live = Live::start(&lab, "operator")?;
    lab.entra("/control/disable", &json!({"app": "operator"}))?;
    // deploy/lab/weir.yaml: 5 s ± 20 %, and one round trip.
    let ended = session_ends(&lab, "operator", Duration::from_secs(10));
    let refused = lab.psql("operator", "select 1;")?;
    lab.entra("/control/enable", &json!({"app": "operator"}))?;
    ended?;
    assert!(refused.has("revoked"), "{refused:?}");
    let said = live.end()?;
    assert!(said.contains("identity has been revoked"), "{said}");
    // The refusal is repeated for 30 s without asking Entra.
    until("the way back in", Duration::from_secs(60), || {
        Ok((lab.psql("operator", "select 1;")?.code == 0).then_some(()))
    })
}

#[test]
fn revoking_a_principal_ends_its_session_in_under_a_second() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let live = Live::start(&lab, "service")?;
    let flows = lab.weir_json(&["flows"])?;
    let flow = flows
        .as_array()
        .and_then(|flows| flows.iter().find(|flow| flow["workload"] == "service"));
    let oid = flow.and_then(|flow| flow["principal"].as_str());
    let oid = oid.context("a principal")?.to_owned();
    let session = session(&lab, "service")?;
    let revoked = lab.weir_json(&["revoke", "principal", &oid, "--reason", "test"])?;
    session_ends(&lab, "service", Duration::from_secs(5))?;
    assert_eq!(revoked["ended"], 1);
    let said = live.end()?;
    assert!(said.contains("revoked this identity"), "{said}");
    let refused = lab.psql("service", "select 1;")?;
    let listed = lab.weir_json(&["revoke", "ls"])?;
    let lifted = lab.weir(&["revoke", "lift", "principal", &oid])?;
    assert!(refused.has("revoked this identity"), "{refused:?}");
    assert!(
        listed.to_string().contains(&oid) && lifted.code == 0,
        "{listed:?} {lifted:?}"
    );
    assert_eq!(lab.psql("service", "select 1;")?.code, 0);
    let after_ms = ended_after_ms(&lab, &session, &listed, &oid)?;
    assert!(after_ms < 1000, "{after_ms} ms");
    Ok(())
}

#[test]
fn revoking_needs_a_sign_in_of_somebody_who_may() -> Result<()> {
    let lab = Lab::current()?;
    let oid = "0b000000-0000-4000-8000-00000000dead";
    lab.weir(&["logout"])?;
    let said = lab.weir(&["revoke", "principal", oid, "--reason", "x"])?;
    assert!(said.has("weir login") && said.code != 0, "{said:?}");
    lab.sign_in("bob")?;
    let said = lab.weir(&["revoke", "principal", oid, "--reason", "x"])?;
    assert!(said.has("none of the groups") && said.code != 0, "{said:?}");
    lab.sign_in("alice")?;
    let said = lab.weir(&["revoke", "principal", "nobody", "--reason", "x"])?;
    assert!(said.has("right form") && said.code != 0, "{said:?}");
    Ok(())
}

#[test]
fn a_revocation_outlives_the_node() -> Result<()> {
    let mut lab = Lab::current()?;
    lab.sign_in("alice")?;
    let said = lab.weir(&["revoke", "workload", "agent", "--reason", "test"])?;
    assert_eq!(said.code, 0, "{said:?}");
    lab.kill("node")?;
    lab.start_again()?;
    let refused = lab.psql("agent", "select 1;")?;
    lab.sign_in("alice")?;
    let lifted = lab.weir(&["revoke", "lift", "workload", "agent"])?;
    assert!(refused.has("revoked this identity"), "{refused:?}");
    assert_eq!(lifted.code, 0, "{lifted:?}");
    Ok(())
}

#[test]
fn a_password_is_rotated_without_a_restart() -> Result<()> {
    let lab = Lab::current()?;
    let file = lab.name("LAB_DB_PASSWORD_FILE")?;
    let before = std::fs::read_to_string(&file)?;
    let after = format!("{before}-rotated");
    let set = |password: &str| -> Result<()> {
        lab.server(&format!("alter role weir_app password '{password}'"))?;
        std::fs::write(&file, password).context("the password file")
    };
    let served = || {
        until("the password in use", Duration::from_secs(10), || {
            Ok((lab.psql("analyst", "select 1;")?.code == 0).then_some(()))
        })
    };
    set(&after)?;
    let rotated = served();
    set(&before)?;
    rotated?;
    served()
}

#[test]
fn members_of_a_group_sign_in_as_another_user_whose_password_a_vault_keeps() -> Result<()> {
    let lab = Lab::current()?;
    let reporter = |agent: &str, number: u32| -> Result<bool> {
        let asked = format!("select {number} as asked");
        let said = lab.psql(agent, &format!("{asked};"))?;
        assert_eq!(said.code, 0, "{agent}: {said:?}");
        let log = lab.server_log()?;
        let line = log.lines().find(|line| line.contains(&asked));
        let line = line.context("the statement in the server's log")?;
        Ok(line.contains("weir_reporter@"))
    };
    assert!(reporter("service", 990_017)?, "service is in reporters");
    assert!(!reporter("analyst", 990_018)?, "analyst is not");
    Ok(())
}

const VISIT: &str =
    "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20).read()";

/// What a person's browser does with the address that `weir` prints: to the test Entra, and back.
fn browse(lab: &Lab, user: &str, url: &str) -> Result<()> {
    lab.entra("/control/browser", &json!({ "user": user }))?;
    let said = std::process::Command::new(Lab::python_binary()?)
        .args(["-B", "-c", VISIT, url])
        .output()?;
    anyhow::ensure!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(())
}

/// The first line that a command prints, and no byte of what follows.
fn first_line(child: &mut std::process::Child) -> Result<String> {
    let mut line = String::new();
    let mut out = child.stdout.take().context("stdout")?;
    let mut byte = [0];
    while std::io::Read::read(&mut out, &mut byte)? == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    child.stdout = Some(out);
    Ok(line)
}

#[test]
fn a_reviewer_signs_in_by_the_browser() -> Result<()> {
    let lab = Lab::current()?;
    lab.weir(&["logout"])?;
    let mut child = lab.weir_started(&["login", "--browser", "--json"])?;
    let line = first_line(&mut child)?;
    let start: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    let url = start["url"].as_str().context("an address to open")?;
    assert!(url.contains("code_challenge_method=S256"), "{url}");
    browse(&lab, "alice", url)?;
    let said = finish(child)?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.has("0e000000-0000-4000-8000-000000000001"), "{said:?}");
    let who = lab.weir_json(&["whoami"])?;
    assert_eq!(who["oid"], "0e000000-0000-4000-8000-000000000001");
    Ok(())
}

/// State and detail of a row of `weir doctor`.
fn row(report: &serde_json::Value, name: &str) -> Result<(String, String)> {
    let rows = report["rows"].as_array().context("rows")?;
    let row = rows.iter().find(|row| row["what"] == name);
    let row = row.with_context(|| format!("no row {name}"))?;
    let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), text("detail")))
}

#[test]
fn doctor_signs_in_as_each_workload_and_knows_the_clock() -> Result<()> {
    let lab = Lab::current()?;
    let doctor = || -> Result<serde_json::Value> {
        let said = lab.weir(&["doctor", "--json"])?;
        serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
    };
    let good = doctor()?;
    for agent in ["analyst", "service", "machine", "agent", "guest", "batch"] {
        let (state, detail) = row(&good, &format!("sign-in of {agent}"))?;
        assert_eq!(state, "ok", "{agent}: {detail}");
        assert!(
            detail.contains("token version 2") && detail.contains("Agent.Connect"),
            "{detail}"
        );
    }
    let (state, detail) = row(&good, "clock")?;
    assert!(state == "ok", "{detail}");
    lab.entra("/control/clock", &json!({"seconds": -300}))?;
    lab.entra("/control/metadata", &json!({"version": 1}))?;
    let wrong = doctor();
    lab.entra("/control/clock", &json!({"seconds": 0}))?;
    lab.entra("/control/metadata", &json!({"version": 2}))?;
    let wrong = wrong?;
    let (state, detail) = row(&wrong, "clock")?;
    assert!(
        state == "failed" && detail.contains("ahead of the authority"),
        "{detail}"
    );
    let (state, detail) = row(&wrong, "sign-in of machine")?;
    assert!(
        state == "failed" && detail.contains("requestedAccessTokenVersion"),
        "{detail}"
    );
    Ok(())
}

/// `weir run` in the laptop's network, signed in as that user; what its command said.
fn run_as(lab: &Lab, user: &str, approve: bool, script: &str) -> Result<weir_e2e::lab::Said> {
    let mut child = run_started(lab, "--device", script)?;
    let line = first_line(&mut child)?;
    let start: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    let answer = json!({"user_code": start["user_code"], "user": user, "approve": approve});
    lab.entra("/control/device", &answer)?;
    finish(child)
}

fn run_started(lab: &Lab, way: &str, script: &str) -> Result<std::process::Child> {
    std::process::Command::new("nsenter")
        .arg(format!("--net={}", lab.name("LAB_LAPTOP_NETNS")?))
        .arg(lab.name("LAB_WEIR_BINARY")?)
        .args([
            "run", "--json", way, "--agent", "laptop", "--user", "nobody",
        ])
        .args(["--config", &lab.name("LAB_CONFIG")?])
        .args(["--", "/bin/sh", "-c", script])
        .env("PGHOST", lab.name("LAB_DB_V4")?)
        .env("PGUSER", lab.name("LAB_DB_USER")?)
        .env("PGDATABASE", lab.name("LAB_DB_NAME")?)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .context("starting weir run")
}

#[test]
fn weir_run_signs_in_by_the_browser() -> Result<()> {
    let lab = Lab::current()?;
    let script = "psql -XAt -c 'select 21 * 2' && cat /proc/self/cgroup; exit 5";
    let mut child = run_started(&lab, "--browser", script)?;
    let line = first_line(&mut child)?;
    let start: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    let url = start["url"]
        .as_str()
        .context("an address to open")?
        .to_owned();
    // The browser is in the laptop's network, as the loopback address is.
    lab.entra("/control/browser", &json!({"user": "carol"}))?;
    let location = lab.redirect(&url)?;
    let visited = std::process::Command::new("nsenter")
        .arg(format!("--net={}", lab.name("LAB_LAPTOP_NETNS")?))
        .args([Lab::python_binary()?.as_str(), "-B", "-c", VISIT, &location])
        .output()?;
    anyhow::ensure!(visited.status.success(), "{visited:?}");
    let said = finish(child)?;
    assert_eq!(said.code, 5, "the command's own exit code: {said:?}");
    assert!(said.has("42") && said.has("/laptop/run-"), "{said:?}");
    Ok(())
}

#[test]
fn weir_run_governs_a_persons_process_tree() -> Result<()> {
    let lab = Lab::current()?;
    let script = "psql -XAt -c 'select count(*) from customers' && cat /proc/self/cgroup && id -un; \
                  (setsid sh -c 'psql -XAt -c \"select 11 * 11\"'); exit 7";
    let said = run_as(&lab, "carol", true, script)?;
    assert_eq!(said.code, 7, "the command's own exit code: {said:?}");
    assert!(said.has("/laptop/run-") && said.has("nobody"), "{said:?}");
    assert!(said.has("121"), "what it starts is governed too: {said:?}");
    until("the record", Duration::from_secs(20), || {
        let sql = "select count() > 0 from weir.fact where workload = 'laptop' and \
                   evidence = 'person' and principal = '0e000000-0000-4000-8000-000000000003'";
        Ok((lab.store(sql)?.trim() == "1").then_some(()))
    })?;
    Ok(())
}

#[test]
fn what_a_person_may_not_do_their_agent_may_not_either() -> Result<()> {
    let lab = Lab::current()?;
    let said = run_as(
        &lab,
        "bob",
        true,
        "psql -XAt -c 'select count(*) from customers'",
    )?;
    assert!(
        said.code != 0 && said.has("weir"),
        "bob is in no group: {said:?}"
    );
    let declined = run_as(&lab, "carol", false, "echo started")?;
    assert!(
        declined.code != 0 && !declined.has("started"),
        "{declined:?}"
    );
    let binary = lab.name("LAB_WEIR_BINARY")?;
    let config = lab.name("LAB_CONFIG")?;
    let again = format!("{binary} approvals ls --config {config}");
    let said = run_as(&lab, "carol", true, &again)?;
    assert!(said.code != 0, "no governed process administers: {said:?}");
    Ok(())
}

/// Whatever was secret in this lab: tokens that were given out, and files that hold some.
fn secrets_of(lab: &Lab) -> Result<Vec<String>> {
    let minted = lab.entra_get("/control/minted")?;
    let minted = minted.as_array().context("a list")?.clone();
    anyhow::ensure!(!minted.is_empty(), "no token was given out yet");
    let mut secrets: Vec<String> = minted
        .iter()
        .filter_map(|token| token.as_str())
        // The signature, or the whole of what is no JWT: either is enough to know it again.
        .filter_map(|token| token.rsplit('.').next())
        .map(str::to_owned)
        .collect();
    for name in [
        "LAB_ANALYST_TOKEN_FILE",
        "LAB_DB_PASSWORD_FILE",
        "LAB_CLUSTER_TOKEN_FILE",
    ] {
        secrets.push(std::fs::read_to_string(lab.name(name)?)?);
    }
    let folder = lab.name("LAB_SECRETS")?;
    for file in [
        "vault-token",
        "graph-secret",
        "batch-secret",
        "node-credential",
        "reporter-password",
    ] {
        secrets.push(std::fs::read_to_string(format!("{folder}/{file}"))?);
    }
    for secret in &mut secrets {
        *secret = secret
            .trim()
            .rsplit('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        anyhow::ensure!(secret.len() >= 16, "too short to be looked for");
    }
    Ok(secrets)
}

fn files_below(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn holds(bytes: &[u8], secret: &str) -> bool {
    bytes
        .windows(secret.len())
        .any(|part| part == secret.as_bytes())
}

#[test]
fn a_token_appears_in_no_log_record_argument_or_core_dump() -> Result<()> {
    let lab = Lab::current()?;
    for agent in ["analyst", "service", "machine", "agent", "batch"] {
        lab.psql(agent, "select 1;")?;
    }
    let secrets = secrets_of(&lab)?;
    let canary = &secrets[0];
    assert!(
        holds(format!("x{canary}y").as_bytes(), canary),
        "the search finds what is there"
    );
    let state = std::path::PathBuf::from(lab.name("LAB_STATE_DIR")?);
    let spool = lab
        .env
        .pointer("/weir/spool")
        .and_then(|path| path.as_str());
    let mut places = Vec::new();
    files_below(std::path::Path::new(spool.context("a spool")?), &mut places)?;
    places.extend(["broker", "node"].map(|name| state.join(format!("log/{name}.log"))));
    let mut looked = 0;
    for process in ["broker", "node"] {
        let pid = lab.pid(process)?;
        places.push(format!("/proc/{pid}/cmdline").into());
        places.push(format!("/proc/{pid}/environ").into());
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<&str> = core.context("a limit")?.split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "{process} leaves no core dump");
    }
    for place in places {
        let bytes = std::fs::read(&place).with_context(|| place.display().to_string())?;
        looked += bytes.len();
        for secret in &secrets {
            assert!(
                !holds(&bytes, secret),
                "a secret stands in {}",
                place.display()
            );
        }
    }
    assert!(looked > 10_000, "there was something to look at: {looked}");
    let stored = lab.store("select * from weir.fact")?;
    assert!(stored.contains("analyst"), "there was something to look at");
    let found = secrets
        .iter()
        .filter(|secret| stored.contains(secret.as_str()));
    assert_eq!(found.count(), 0, "a secret stands in the store");
    for arguments in [&["flows"][..], &["approvals", "ls"], &["revoke", "ls"]] {
        let said = lab.weir_json(arguments)?.to_string();
        assert!(
            !secrets.iter().any(|secret| said.contains(secret.as_str())),
            "{arguments:?}"
        );
    }
    Ok(())
}
