//! One small HTTP/1.1 request to loopback, for the test Entra and health endpoints.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_MAX: u64 = 4 * 1024 * 1024;

/// Status and body of `GET origin/path`.
pub(crate) fn get(origin: &str, path: &str) -> Result<(u16, String)> {
    request(origin, &format!("GET {path} HTTP/1.1"), "")
}

/// Posts JSON; an answer outside 2xx is an error that shows it.
pub(crate) fn post(origin: &str, path: &str, body: &Value) -> Result<Value> {
    let (status, text) = request(origin, &format!("POST {path} HTTP/1.1"), &body.to_string())?;
    if !(200..300).contains(&status) {
        bail!("POST {origin}{path} answered {status}: {text}");
    }
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).with_context(|| format!("POST {origin}{path}: not JSON: {text}"))
}

fn request(origin: &str, line: &str, body: &str) -> Result<(u16, String)> {
    let host = origin
        .strip_prefix("http://")
        .context("only http:// origins")?;
    let host = host.trim_end_matches('/');
    let mut stream = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .context("setting a time limit")?;
    stream
        .set_write_timeout(Some(TIMEOUT))
        .context("setting a time limit")?;
    let length = body.len();
    write!(
        stream,
        "{line}\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .with_context(|| format!("writing to {host}"))?;
    let mut raw = Vec::new();
    stream
        .take(REPLY_MAX)
        .read_to_end(&mut raw)
        .with_context(|| format!("reading {host}"))?;
    let text = String::from_utf8_lossy(&raw).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no HTTP status")?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok((
        status,
        if chunked {
            unchunk(body)
        } else {
            body.to_owned()
        },
    ))
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let Some(piece) = rest.get(..size) else { break };
        if size == 0 {
            break;
        }
        out.push_str(piece);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn chunks_are_joined() {
        assert_eq!(super::unchunk("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
