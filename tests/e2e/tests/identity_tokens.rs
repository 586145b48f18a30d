//! Access tokens that stock clients present: psql by its password, kubectl by its bearer.

#![expect(
    clippy::disallowed_methods,
    reason = "tokens have to be valid by the wall clock"
)]

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_e2e::lab::{Lab, Said};
use weir_e2e::live::{Live, ended_after_ms, session, session_ends};
use weir_e2e::until;

const CLI: &str = "c1000000-0000-4000-8000-000000000001";
const ALICE: &str = "0e000000-0000-4000-8000-000000000001";
const BOB: &str = "0e000000-0000-4000-8000-000000000002";
const ANALYST: &str = "a9000000-0000-4000-8000-000000000001";
const ANALYST_OID: &str = "0b000000-0000-4000-8000-000000000001";
const SERVICE: &str = "a9000000-0000-4000-8000-000000000003";
const SERVICE_OID: &str = "0b000000-0000-4000-8000-000000000003";
const OTHER_API: &str = "ef000000-0000-4000-8000-000000000002";
const TENANT_2: &str = "7e000000-0000-4000-8000-000000000002";

fn mint(lab: &Lab, claims: &Value) -> Result<String> {
    let answer = lab.entra("/control/mint", &json!({ "claims": claims }))?;
    let token = answer["token"].as_str().context("a token")?;
    Ok(token.to_owned())
}

/// Claims of a person's token for Weir.
fn person(lab: &Lab, oid: &str, groups: &[String]) -> Result<Value> {
    Ok(json!({
        "aud": lab.name("LAB_AUDIENCE")?, "azp": CLI, "azpacr": "0", "idtyp": "user", "oid": oid,
        "scp": "Agent.Run", "sub": "pairwise", "uti": format!("e2e-{oid}"), "groups": groups,
    }))
}

fn alice(lab: &Lab) -> Result<Value> {
    person(lab, ALICE, &[lab.name("LAB_GROUP_DBA")?])
}

fn application(lab: &Lab, client: &str, oid: &str) -> Result<Value> {
    Ok(json!({
        "aud": lab.name("LAB_AUDIENCE")?, "azp": client, "azpacr": "2", "idtyp": "app", "oid": oid,
        "roles": ["Agent.Connect"], "uti": format!("e2e-{oid}"),
        "groups": [lab.name("LAB_GROUP_ANALYSTS")?],
    }))
}

/// Weir's CA, as a platform team hands it out.
fn bundle(lab: &Lab) -> Result<PathBuf> {
    let said = lab.weir(&["ca", "bundle"])?;
    anyhow::ensure!(said.code == 0, "{said:?}");
    let path = std::env::temp_dir().join(format!("weir-e2e-ca-{}.pem", std::process::id()));
    std::fs::write(&path, said.out)?;
    Ok(path)
}

fn command(lab: &Lab, password: &str, sslmode: &str) -> Result<Vec<String>> {
    let mut words = vec!["env".to_owned()];
    words.push(format!("PGPASSWORD={password}"));
    words.push(format!("PGHOST={}", lab.name("LAB_DB_V6")?));
    words.push(format!("PGSSLMODE={sslmode}"));
    words.push(format!("PGSSLROOTCERT={}", bundle(lab)?.display()));
    let psql = [
        "psql",
        "--no-psqlrc",
        "--no-password",
        "--set",
        "VERBOSITY=verbose",
        "-At",
    ];
    words.extend(psql.map(str::to_owned));
    Ok(words)
}

fn psql(lab: &Lab, agent: &str, password: &str, sql: &str) -> Result<Said> {
    let words = command(lab, password, "verify-full")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    lab.exec(agent, &words, sql)
}

fn open(lab: &Lab, agent: &str, password: &str) -> Result<Child> {
    let words = command(lab, password, "verify-full")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    lab.interactive(agent, &words)
}

#[test]
fn a_persons_token_is_a_password_over_tls() -> Result<()> {
    let lab = Lab::current()?;
    let token = mint(&lab, &alice(&lab)?)?;
    let said = psql(
        &lab,
        "analyst",
        &token,
        "select 6 * 7; select count(*) from customers;",
    )?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("42\n"), "{said:?}");
    until("the record", Duration::from_secs(20), || {
        let sql = format!(
            "select count() > 0 from weir.fact where target = 'tokens' and workload = 'analyst' \
             and evidence = 'presented' and principal = '{ALICE}' and kind = 'request'"
        );
        Ok((lab.store(&sql)?.trim() == "1").then_some(()))
    })?;
    let sql = format!(
        "select count() > 0 from weir.fact where target = 'tokens' and principal = '{ALICE}' and \
         kind = 'identity' and position(reason, 'presented by analyst {ANALYST_OID}') > 0"
    );
    assert_eq!(lab.store(&sql)?.trim(), "1", "who presented it is recorded");
    Ok(())
}

#[test]
fn the_subject_and_the_workload_must_both_be_permitted() -> Result<()> {
    let lab = Lab::current()?;
    let (alice, bob) = (
        mint(&lab, &alice(&lab)?)?,
        mint(&lab, &person(&lab, BOB, &[])?)?,
    );
    // The subject may, the workload may not.
    let said = psql(&lab, "operator", &alice, "select 1;")?;
    assert!(said.has("42501") && said.has("weir"), "{said:?}");
    let said = psql(&lab, "analyst", &alice, "create table x (a int);")?;
    assert!(
        said.has("tokens-no-ddl") && said.has("workload that presented"),
        "{said:?}"
    );
    // The workload may, the subject may not.
    let said = psql(&lab, "analyst", &bob, "select count(*) from customers;")?;
    assert!(
        said.has("42501") && said.has("presented token's subject"),
        "{said:?}"
    );
    // A workload with its own token is one.
    let own = mint(&lab, &application(&lab, ANALYST, ANALYST_OID)?)?;
    let said = psql(&lab, "analyst", &own, "select count(*) from customers;")?;
    assert_eq!(said.code, 0, "{said:?}");
    Ok(())
}

#[test]
fn each_wrong_token_is_refused_with_its_step() -> Result<()> {
    let lab = Lab::current()?;
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    let with = |changes: Value| -> Result<String> {
        let mut claims = alice(&lab)?;
        for (name, value) in changes.as_object().context("changes")? {
            claims[name] = value.clone();
        }
        mint(&lab, &claims)
    };
    let issuer_2 = format!("{}/{TENANT_2}/v2.0", lab.name("LAB_AUTHORITY")?);
    for (what, token, step) in [
        ("audience", with(json!({"aud": OTHER_API}))?, "step 12"),
        (
            "expired",
            with(json!({"iat": now_s - 7200, "nbf": now_s - 7200, "exp": now_s - 120}))?,
            "step 13",
        ),
        (
            "tenant",
            with(json!({"tid": TENANT_2, "iss": issuer_2}))?,
            "step 11",
        ),
        ("id_token", with(json!({"nonce": "n"}))?, "step 14"),
        (
            "workload",
            mint(&lab, &application(&lab, SERVICE, SERVICE_OID)?)?,
            "step 18",
        ),
        ("version", with(json!({"ver": "1.0"}))?, "step 10"),
    ] {
        let said = psql(&lab, "analyst", &token, "select 1;")?;
        assert_ne!(said.code, 0, "{what}: {said:?}");
        assert!(said.has(&format!("at {step}:")), "{what}: {said:?}");
        assert!(!said.has(&token), "{what}: the token is not repeated");
    }
    let other_tenant = lab.entra(
        "/control/mint",
        &json!({"tid": TENANT_2, "claims": alice(&lab)?}),
    )?;
    let said = psql(
        &lab,
        "analyst",
        other_tenant["token"].as_str().context("a token")?,
        "select 1;",
    )?;
    assert!(
        said.has("at step 18:") && said.has("another tenant"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn without_tls_the_client_is_told_what_to_do_before_a_password_is_asked_for() -> Result<()> {
    let lab = Lab::current()?;
    let words = command(&lab, "never-asked-for", "disable")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = lab.exec("analyst", &words, "select 1;")?;
    assert_ne!(said.code, 0);
    assert!(
        said.has("sslmode=verify-full") && said.has("weir ca bundle"),
        "{said:?}"
    );
    Ok(())
}

/// Where a password could have ended up.
fn places(lab: &Lab) -> Result<Vec<u8>> {
    let state = PathBuf::from(lab.name("LAB_STATE_DIR")?);
    let mut all = Vec::new();
    for name in ["broker", "node", "postgres", "entra"] {
        all.extend(std::fs::read(state.join(format!("log/{name}.log"))).unwrap_or_default());
    }
    let spool = PathBuf::from(lab.name("LAB_SPOOL")?);
    let mut folders = vec![spool];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                all.extend(std::fs::read(entry.path())?);
            }
        }
    }
    all.extend(lab.store("select * from weir.fact")?.into_bytes());
    for process in ["broker", "node"] {
        let pid = lab.pid(process)?;
        all.extend(std::fs::read(format!("/proc/{pid}/cmdline"))?);
        all.extend(std::fs::read(format!("/proc/{pid}/environ"))?);
    }
    Ok(all)
}

#[test]
fn a_real_password_sent_by_mistake_is_nowhere() -> Result<()> {
    let lab = Lab::current()?;
    let password = "Tr0ub4dor-and-3-of-the-real-ones";
    let said = psql(&lab, "analyst", password, "select 1;")?;
    assert_ne!(said.code, 0);
    assert!(said.has("az account get-access-token"), "{said:?}");
    assert!(!said.has(password), "{said:?}");
    until("the refusal in the record", Duration::from_secs(20), || {
        let sql = "select count() > 0 from weir.fact where target = 'tokens' and \
                   status = 'token_not_three_parts'";
        Ok((lab.store(sql)?.trim() == "1").then_some(()))
    })?;
    let all = places(&lab)?;
    assert!(all.len() > 10_000, "there was something to look at");
    let found = all
        .windows(password.len())
        .any(|part| part == password.as_bytes());
    assert!(!found, "the password stands somewhere");
    Ok(())
}

#[test]
fn a_presented_token_is_nowhere_however_it_was_presented() -> Result<()> {
    let lab = Lab::current()?;
    let good = mint(&lab, &alice(&lab)?)?;
    let mut wrong = alice(&lab)?;
    wrong["aud"] = json!(OTHER_API);
    let wrong = mint(&lab, &wrong)?;
    let get = ["-n", "shop", "get", "pods"];
    for token in [&good, &wrong] {
        psql(&lab, "analyst", token, "select 5001;")?;
        // Its arguments are recorded with each request, and hold the token.
        kubectl(&lab, "analyst", Some(token), &get)?;
    }
    until("both in the record", Duration::from_secs(20), || {
        let sql = "select count() > 0 from weir.fact where target = 'token-cluster' and \
                   position(argv, 'kubectl') > 0 and rule = 'weir:token-refused'";
        Ok((lab.store(sql)?.trim() == "1").then_some(()))
    })?;
    let mut all = places(&lab)?;
    all.extend(std::fs::read(lab.name("LAB_CLUSTER_LOG")?)?);
    for arguments in [&["flows"][..], &["sessions", "ls"], &["approvals", "ls"]] {
        all.extend(lab.weir_json(arguments)?.to_string().into_bytes());
    }
    for token in [&good, &wrong] {
        let signature = token.rsplit('.').next().context("a signature")?;
        assert!(signature.len() > 100, "long enough to be looked for");
        let found = all
            .windows(signature.len())
            .any(|part| part == signature.as_bytes());
        assert!(!found, "a presented token stands somewhere");
    }
    for process in ["broker", "node"] {
        let pid = lab.pid(process)?;
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let core: Vec<&str> = core.context("a limit")?.split_whitespace().collect();
        assert_eq!(core[4..6], ["0", "0"], "{process} leaves no core dump");
    }
    Ok(())
}

#[test]
fn a_session_ends_when_its_token_does() -> Result<()> {
    let lab = Lab::current()?;
    let mut claims = alice(&lab)?;
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)?
        .as_secs();
    claims["exp"] = json!(now_s + 12);
    let token = mint(&lab, &claims)?;
    let live = Live::of(open(&lab, "analyst", &token)?)?;
    session_ends(&lab, "analyst", Duration::from_secs(25))?;
    let said = live.end()?;
    assert!(
        said.contains("token that this session presented has ended"),
        "{said}"
    );
    Ok(())
}

#[test]
fn disabling_the_presented_subject_ends_the_session_within_the_cadence() -> Result<()> {
    let lab = Lab::current()?;
    let token = mint(&lab, &alice(&lab)?)?;
    let live = Live::of(open(&lab, "analyst", &token)?)?;
    lab.entra("/control/disable", &json!({"user": "alice"}))?;
    // tests/e2e/config/identity.yaml: 5 s ± 20 %, and two round trips.
    let ended = session_ends(&lab, "analyst", Duration::from_secs(12));
    let refused = psql(&lab, "analyst", &token, "select 1;");
    lab.entra("/control/enable", &json!({"user": "alice"}))?;
    ended?;
    let refused = refused?;
    assert!(refused.has("is disabled"), "{refused:?}");
    let said = live.end()?;
    assert!(said.contains("is disabled"), "{said}");
    Ok(())
}

#[test]
fn revoking_either_of_the_two_ends_the_session_in_under_a_second() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    for oid in [ALICE, ANALYST_OID] {
        let token = mint(&lab, &alice(&lab)?)?;
        let live = Live::of(open(&lab, "analyst", &token)?)?;
        let session = session(&lab, "analyst")?;
        let revoked = lab.weir_json(&["revoke", "principal", oid, "--reason", "test"])?;
        let listed = lab.weir_json(&["revoke", "ls"]);
        let ended = session_ends(&lab, "analyst", Duration::from_secs(10));
        let refused = psql(&lab, "analyst", &token, "select 1;");
        let lifted = lab.weir(&["revoke", "lift", "principal", oid])?;
        assert_eq!(lifted.code, 0, "{lifted:?}");
        ended?;
        assert_eq!(revoked["ended"], 1, "{oid}");
        assert!(refused?.has("revoked this identity"), "{oid}");
        assert!(live.end()?.contains("revoked this identity"), "{oid}");
        let after_ms = ended_after_ms(&lab, &session, &listed?, oid)?;
        assert!(after_ms < 1000, "{oid}: {after_ms} ms");
    }
    Ok(())
}

/// kubectl as an agent has it, towards the target that takes tokens.
fn kubectl(lab: &Lab, agent: &str, token: Option<&str>, arguments: &[&str]) -> Result<Said> {
    let server = format!(
        "https://[{}]:{}",
        lab.name("LAB_DB_V6")?,
        lab.name("LAB_CLUSTER_PORT")?
    );
    let authority = bundle(lab)?;
    let mut words = vec![
        "kubectl".to_owned(),
        "--kubeconfig=/dev/null".to_owned(),
        format!("--server={server}"),
        format!("--certificate-authority={}", authority.display()),
    ];
    words.extend(token.map(|token| format!("--token={token}")));
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .chain(arguments.iter().copied())
        .collect();
    lab.exec(agent, &words, "")
}

#[test]
fn kubectl_presents_a_token_as_its_bearer() -> Result<()> {
    let lab = Lab::current()?;
    let token = mint(&lab, &alice(&lab)?)?;
    let said = kubectl(
        &lab,
        "analyst",
        Some(&token),
        &["-n", "shop", "get", "pods"],
    )?;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.has("web-0"), "{said:?}");
    let log = std::fs::read_to_string(lab.name("LAB_CLUSTER_LOG")?)?;
    assert!(
        log.contains(ALICE),
        "the cluster is asked as the token's subject"
    );
    assert!(!log.contains(&token), "the token goes no further");
    // The workload is not of the group that may bring it.
    let said = kubectl(
        &lab,
        "operator",
        Some(&token),
        &["-n", "shop", "get", "pods"],
    )?;
    assert!(said.code != 0 && said.has("orbidden"), "{said:?}");
    Ok(())
}

#[test]
fn kubectl_is_told_which_step_refused_its_token() -> Result<()> {
    let lab = Lab::current()?;
    let mut wrong = alice(&lab)?;
    wrong["aud"] = json!(OTHER_API);
    let wrong = mint(&lab, &wrong)?;
    let get = ["-n", "shop", "get", "pods"];
    let said = kubectl(&lab, "analyst", Some(&wrong), &get)?;
    assert!(said.code != 0 && said.has("step 12"), "{said:?}");
    let said = kubectl(&lab, "analyst", Some("hunter2-hunter2-hunter2"), &get)?;
    assert!(said.code != 0 && said.has("step 1"), "{said:?}");
    let of_other = mint(&lab, &application(&lab, SERVICE, SERVICE_OID)?)?;
    let said = kubectl(&lab, "analyst", Some(&of_other), &get)?;
    assert!(said.code != 0 && said.has("step 18"), "{said:?}");
    let said = kubectl(&lab, "analyst", None, &get)?;
    assert!(said.code != 0, "{said:?}");
    Ok(())
}
