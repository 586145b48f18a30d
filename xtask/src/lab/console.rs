//! The web console of a lab: its address, its client at the test Entra, its certificate.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::Lab;
use super::secret::write_private;
use super::weir::free_port;
use crate::{http, run};

/// As in `tests/entra/lab.json`.
const CLIENT: &str = "c1000000-0000-4000-8000-000000000002";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Console {
    pub(crate) listen: String,
    pub(crate) url: String,
    /// As the configuration writes it; `null` on loopback.
    pub(crate) tls: String,
    pub(crate) client_id: String,
}

/// Plain on loopback for people, whose browsers do not know the lab's certificates; with `tls` on
/// the address by which agents reach the host, as a real one would be.
pub(super) fn prepare(lab: &mut Lab, tls: bool) -> Result<()> {
    let port = free_port()?;
    let console = if tls {
        let host = lab.host.v4;
        Console {
            listen: format!("{host}:{port}"),
            url: format!("https://{host}:{port}"),
            tls: certificate(lab)?,
            client_id: CLIENT.to_owned(),
        }
    } else {
        Console {
            listen: format!("127.0.0.1:{port}"),
            url: format!("http://127.0.0.1:{port}"),
            tls: "null".to_owned(),
            client_id: CLIENT.to_owned(),
        }
    };
    let entra = lab.entra.as_ref().context("the test Entra was started")?;
    let redirect = format!("{}/sign-in/return", console.url);
    let body = json!({ "client_id": CLIENT, "uri": redirect });
    http::post(&entra.origin, "/control/redirect", &body)?;
    let body = json!({ "app": "weir-console" });
    let answer = http::post(&entra.origin, "/control/secret", &body)?;
    let secret = answer.pointer("/secret").and_then(Value::as_str);
    let secret = secret.context("a secret of the console's client")?;
    write_private(&lab.secrets().join("console-secret"), secret.as_bytes())?;
    lab.console = Some(console);
    lab.save()
}

/// A certificate of its own; gives the section of the configuration.
fn certificate(lab: &Lab) -> Result<String> {
    let (key, chain) = (
        lab.secrets().join("console.key"),
        lab.secrets().join("console.pem"),
    );
    run::quiet(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", "/CN=weir lab console", "-addext"])
            .arg(format!("subjectAltName=IP:{}", lab.host.v4))
            .args(["-keyout".as_ref(), key.as_os_str()])
            .args(["-out".as_ref(), chain.as_os_str()]),
    )?;
    let private = fs::read(&key).context("the console's key")?;
    fs::remove_file(&key).context("the console's key")?;
    write_private(&key, &private)?;
    Ok(format!(
        "{{ certificate_file: \"{}\", key_file: \"{}\" }}",
        chain.display(),
        key.display()
    ))
}
