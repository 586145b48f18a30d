//! Somebody else answers inside a target's address range: no credential reaches them.
//!
//! The targets of `tests/e2e/config/identity.yaml` hold the lab's real credentials.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use weir_e2e::fakes::Fake;
use weir_e2e::lab::{Lab, Said};

const CLEAR: u16 = 5601;
const TLS: u16 = 5602;
const NAME: u16 = 5603;
const CLUSTER: u16 = 5604;
const HOST: u16 = 5605;

/// A certificate that nobody vouches for, and its key.
fn self_signed(name: &str) -> Result<(String, String)> {
    let folder = folder()?;
    let path = |kind: &str| folder.join(format!("{name}.{kind}")).display().to_string();
    let (cert, key) = (path("crt"), path("key"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=fake"])
        .args(["-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-keyout", &key, "-out", &cert])
        .output()?;
    anyhow::ensure!(status.status.success(), "openssl: {status:?}");
    Ok((cert, key))
}

fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("weir-e2e-fakes-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn psql(lab: &Lab, port: u16) -> Result<Said> {
    let host = format!("PGHOST={}", lab.name("LAB_OUTSIDE_V4")?);
    let port = format!("PGPORT={port}");
    // Once: psql tries again in the clear where TLS with Weir was not the reason.
    let words = [
        "env",
        "PGSSLMODE=disable",
        &host,
        &port,
        "psql",
        "--no-psqlrc",
        "--no-password",
        "-c",
        "select 1",
    ];
    lab.exec("analyst", &words, "")
}

/// What a fake was given by one `psql`, which was refused.
fn given(lab: &Lab, fake: Fake<'_>, port: u16) -> Result<(Said, Vec<String>)> {
    let running = fake.start(lab, port)?;
    let said = psql(lab, port)?;
    let given = running.end()?;
    assert_ne!(said.code, 0, "{said:?}");
    assert!(
        given.iter().any(|line| line == "connection"),
        "it was asked: {given:?} {said:?}"
    );
    Ok((said, given))
}

/// Neither the password nor anything that was made of it alone.
fn holds_no_password(lab: &Lab, given: &[String]) -> Result<()> {
    let password = std::fs::read_to_string(lab.name("LAB_DB_PASSWORD_FILE")?)?;
    let hex: String = password
        .trim()
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(hex.len() >= 16, "a password that can be looked for");
    assert!(!given.iter().any(|line| line.contains(&hex)), "{given:?}");
    Ok(())
}

fn messages(given: &[String]) -> Vec<&str> {
    given
        .iter()
        .filter_map(|line| line.strip_prefix("got ")?.split(' ').next())
        .collect()
}

#[test]
fn a_server_that_asks_for_the_password_in_clear_gets_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let (_, given) = given(&lab, Fake::Postgres("clear", None), CLEAR)?;
    assert_eq!(messages(&given), ["startup"]);
    holds_no_password(&lab, &given)
}

#[test]
fn a_server_that_asks_for_md5_gets_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let (_, given) = given(&lab, Fake::Postgres("md5", None), CLEAR)?;
    assert_eq!(messages(&given), ["startup"]);
    Ok(())
}

#[test]
fn a_server_that_lets_everybody_in_is_not_believed() -> Result<()> {
    let lab = Lab::current()?;
    let (said, given) = given(&lab, Fake::Postgres("ok", None), CLEAR)?;
    assert_eq!(messages(&given), ["startup"], "no statement: {said:?}");
    Ok(())
}

#[test]
fn scram_with_few_iterations_gets_no_proof() -> Result<()> {
    let lab = Lab::current()?;
    let (said, given) = given(&lab, Fake::Postgres("scram-few", None), CLEAR)?;
    // The first message holds a nonce only; the proof would be the second.
    assert_eq!(messages(&given), ["startup", "p"], "{said:?}");
    assert!(said.has("4,096 iterations"), "{said:?}");
    holds_no_password(&lab, &given)
}

#[test]
fn a_server_with_a_wrong_signature_gets_no_statement() -> Result<()> {
    let lab = Lab::current()?;
    for mode in ["scram-lies", "scram-silent"] {
        let (said, given) = given(&lab, Fake::Postgres(mode, None), CLEAR)?;
        assert_eq!(messages(&given), ["startup", "p", "p"], "{mode}: {said:?}");
        assert!(said.has(" prov"), "{mode}: {said:?}");
        holds_no_password(&lab, &given)?;
    }
    Ok(())
}

#[test]
fn a_server_without_tls_gets_nothing_where_tls_is_demanded() -> Result<()> {
    let lab = Lab::current()?;
    let (_, given) = given(&lab, Fake::Postgres("no-tls", None), TLS)?;
    assert_eq!(
        messages(&given),
        ["startup"],
        "the request for TLS alone: {given:?}"
    );
    holds_no_password(&lab, &given)
}

#[test]
fn a_server_with_a_certificate_of_its_own_gets_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let (cert, key) = self_signed("db.demo.internal")?;
    let fake = Fake::Postgres("tls", Some((&cert, &key)));
    let (_, given) = given(&lab, fake, TLS)?;
    assert_eq!(
        messages(&given),
        ["startup"],
        "the request for TLS alone: {given:?}"
    );
    Ok(())
}

#[test]
fn a_server_with_a_good_certificate_of_another_name_gets_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let data = PathBuf::from(lab.name("LAB_STATE_DIR")?).join("postgres");
    let path = |name: &str| data.join(name).display().to_string();
    let (cert, key) = (path("server.crt"), path("server.key"));
    let fake = Fake::Postgres("tls", Some((&cert, &key)));
    // Where its own name is demanded the same fake is let through to the login: it is proven.
    let (_, as_itself) = given(&lab, fake, TLS)?;
    assert!(as_itself.iter().any(|line| line == "tls"), "{as_itself:?}");
    let (_, given) = given(&lab, fake, NAME)?;
    assert_eq!(
        messages(&given),
        ["startup"],
        "the request for TLS alone: {given:?}"
    );
    Ok(())
}

#[test]
fn an_api_server_with_a_certificate_of_its_own_gets_no_token() -> Result<()> {
    let lab = Lab::current()?;
    let (cert, key) = self_signed("kubernetes.default.svc")?;
    let running = Fake::Https(&cert, &key).start(&lab, CLUSTER)?;
    let server = format!("--server=https://{}:{CLUSTER}", lab.name("LAB_OUTSIDE_V4")?);
    let words = [
        "kubectl",
        &server,
        "--request-timeout=10s",
        "get",
        "pods",
        "-n",
        "shop",
    ];
    let said = lab.exec("analyst", &words, "")?;
    let given = running.end()?;
    assert_ne!(said.code, 0, "{said:?}");
    assert!(
        given.iter().any(|line| line == "connection"),
        "{given:?} {said:?}"
    );
    assert!(
        !given.iter().any(|line| line.starts_with("got ")),
        "{given:?}"
    );
    Ok(())
}

#[test]
fn an_ssh_server_with_another_host_key_gets_no_login() -> Result<()> {
    let lab = Lab::current()?;
    let key = folder()?.join("host_key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .output()?;
    anyhow::ensure!(made.status.success() || key.exists(), "{made:?}");
    let running = Fake::Ssh(key.to_str().context("a path of text")?).start(&lab, HOST)?;
    let host = lab.name("LAB_OUTSIDE_V4")?;
    let port = HOST.to_string();
    let words = [
        "ssh",
        "-p",
        &port,
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "BatchMode=yes",
        &host,
        "true",
    ];
    let said = lab.exec("analyst", &words, "")?;
    let given = running.end()?;
    assert_ne!(said.code, 0, "{said:?}");
    assert!(
        given.iter().any(|line| line == "connection"),
        "{given:?} {said:?}"
    );
    assert!(
        !given.iter().any(|line| line.starts_with("got ")),
        "{given:?}"
    );
    Ok(())
}
