//! Lists and watches of the Kubernetes API, with a credential of the node's own.
//!
//! A list says everything, a watch what changes after it; when a watch cannot go on the list is
//! asked for again (Kubernetes API Concepts, "Efficient detection of changes").

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A list of the pods of one node is a few MiB.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// One object of a watch; etcd takes 1.5 MiB.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const LIST_TIME_MAX: Duration = Duration::from_secs(60);
/// The server ends a watch after this time; it is begun again where it was.
const WATCH_S: u64 = 240;
/// A watch that says nothing for longer than it may last is dead.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_S + 30);
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(15);

/// Where the API is and how it is proven.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub host: String,
    pub port: u16,
    /// PEM.
    pub ca: String,
    /// Read again for each connection: the kubelet replaces it.
    pub token_file: PathBuf,
    /// As read before privileges were dropped; used when the file cannot be read.
    pub token: String,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Query {
    /// `/api/v1/pods`.
    pub path: String,
    /// `fieldSelector` or `labelSelector`, and its value; all objects without.
    pub selector: Option<(&'static str, String)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// These are all.
    All(Vec<Value>),
    /// New or different.
    Put(Value),
    Gone(Value),
}

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("connecting: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the CA or the name of the server: {0}")]
    Trust(String),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("no answer within its time")]
    Late,
    #[error("an answer is larger than its limit")]
    TooLarge,
    #[error("an answer is not what it should be: {0}")]
    Malformed(&'static str),
    /// The list has to be asked for again.
    #[error("what the watch began at is too old")]
    Expired,
}

/// A client of one API server.
#[derive(Clone)]
pub struct Api {
    config: Arc<ApiConfig>,
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Api {
    /// # Errors
    /// The CA or the host's name cannot be used; a text for the operator.
    pub fn new(config: ApiConfig) -> Result<Self, String> {
        let trust = |error: ApiError| error.to_string();
        Ok(Self {
            tls: connector(&config.ca).map_err(trust)?,
            name: ServerName::try_from(config.host.clone()).map_err(|error| error.to_string())?,
            config: Arc::new(config),
        })
    }

    /// Says everything that is there, then every change, for ever; after a failure everything
    /// again. Two calls of `changed` never overlap.
    pub async fn follow(&self, query: &Query, mut changed: impl FnMut(Change)) {
        let mut wait = RETRY_FIRST;
        loop {
            let listed = timeout(LIST_TIME_MAX, self.list(query)).await;
            match listed.unwrap_or(Err(ApiError::Late)) {
                Ok((objects, mut version)) => {
                    wait = RETRY_FIRST;
                    changed(Change::All(objects));
                    let ended = self.watch_on(query, &mut version, &mut changed).await;
                    tracing::debug!(path = query.path, error = %ended, "a watch has ended");
                }
                Err(error) => {
                    tracing::warn!(path = query.path, %error, "the Kubernetes API does not answer");
                    wait = (wait * 2).min(RETRY_LAST);
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One watch after the other, while each can go on where the last one was.
    async fn watch_on(
        &self,
        query: &Query,
        version: &mut String,
        changed: &mut impl FnMut(Change),
    ) -> ApiError {
        loop {
            if let Err(error) = self.watch(query, version, changed).await {
                return error;
            }
        }
    }

    async fn list(&self, query: &Query) -> Result<(Vec<Value>, String), ApiError> {
        let mut objects = Vec::new();
        let mut next = String::new();
        loop {
            let mut path = path_of(query);
            path.push_str("limit=500");
            if !next.is_empty() {
                path.push_str("&continue=");
                push_escaped(&mut path, &next);
            }
            let body = collect(self.get(&path).await?).await?;
            let mut page: Value =
                serde_json::from_slice(&body).map_err(|_| ApiError::Malformed("a list"))?;
            let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
                return Err(ApiError::Malformed("a list without items"));
            };
            objects.extend(items);
            let metadata = |name: &str| {
                let text = page.get("metadata").and_then(|metadata| metadata.get(name));
                text.and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            next = metadata("continue");
            if next.is_empty() {
                return Ok((objects, metadata("resourceVersion")));
            }
        }
    }

    /// Until the server ends it, which is no error.
    async fn watch(
        &self,
        query: &Query,
        version: &mut String,
        changed: &mut impl FnMut(Change),
    ) -> Result<(), ApiError> {
        let mut path = path_of(query);
        let _infallible = write!(
            path,
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion="
        );
        push_escaped(&mut path, version);
        let mut body = timeout(CONNECT_TIME_MAX, self.get(&path))
            .await
            .unwrap_or(Err(ApiError::Late))?
            .into_body();
        let mut buffer = BytesMut::new();
        loop {
            let frame = timeout(SILENCE_MAX, body.frame()).await;
            let Some(frame) = frame.map_err(|_elapsed| ApiError::Late)? else {
                return Ok(());
            };
            if let Ok(data) = frame?.into_data() {
                buffer.extend_from_slice(&data);
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                if let Some(change) = event(&line, version)? {
                    changed(change);
                }
            }
            if buffer.len() > LINE_BYTES_MAX {
                return Err(ApiError::TooLarge);
            }
        }
    }

    /// A connection for each request: they are rare, and a new one takes a new token.
    async fn get(&self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let config = &self.config;
        let connect = async {
            let tcp = TcpStream::connect((config.host.as_str(), config.port)).await?;
            tcp.set_nodelay(true)?;
            self.tls.connect(self.name.clone(), tcp).await
        };
        let tls = match timeout(CONNECT_TIME_MAX, connect).await {
            Ok(connected) => connected.map_err(ApiError::Connect)?,
            Err(_elapsed) => return Err(ApiError::Late),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        drop(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the Kubernetes API");
            }
        }));
        let request = Request::get(path)
            .header(header::HOST, format!("{}:{}", config.host, config.port))
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "weir")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token()))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        match response.status().as_u16() {
            200 => Ok(response),
            410 => Err(ApiError::Expired),
            status => Err(ApiError::Status(status)),
        }
    }

    fn token(&self) -> String {
        let file = &self.config.token_file;
        let small = std::fs::metadata(file).is_ok_and(|file| file.len() <= TOKEN_BYTES_MAX);
        let read = std::fs::read_to_string(file).ok().filter(|_| small);
        let token = read.unwrap_or_else(|| self.config.token.clone());
        token.trim().to_owned()
    }
}

fn connector(ca: &str) -> Result<TlsConnector, ApiError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let trust = |error: &dyn std::fmt::Display| ApiError::Trust(error.to_string());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| trust(&error))?;
        roots.add(certificate).map_err(|error| trust(&error))?;
    }
    if roots.is_empty() {
        return Err(ApiError::Trust("the file holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| trust(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if bytes.len() + data.len() > LIST_BYTES_MAX {
                return Err(ApiError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Ends where the next parameter begins.
fn path_of(query: &Query) -> String {
    let mut path = format!("{}?", query.path);
    if let Some((name, value)) = &query.selector {
        path.push_str(name);
        path.push('=');
        push_escaped(&mut path, value);
        path.push('&');
    }
    path
}

fn push_escaped(path: &mut String, value: &str) {
    path.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
}

/// One line of a watch. Its version is where the next watch goes on.
fn event(line: &[u8], version: &mut String) -> Result<Option<Change>, ApiError> {
    let mut event: Value =
        serde_json::from_slice(line).map_err(|_| ApiError::Malformed("a line of a watch"))?;
    let kind = event
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(object) = event.get_mut("object").map(Value::take) else {
        return Err(ApiError::Malformed("an event without an object"));
    };
    if kind == "ERROR" {
        return match object.get("code").and_then(Value::as_u64) {
            Some(410) => Err(ApiError::Expired),
            code => Err(ApiError::Status(
                code.and_then(|code| u16::try_from(code).ok())
                    .unwrap_or(500),
            )),
        };
    }
    let at = object.pointer("/metadata/resourceVersion");
    let Some(at) = at.and_then(Value::as_str) else {
        return Err(ApiError::Malformed("an object without a version"));
    };
    at.clone_into(version);
    match kind.as_str() {
        "ADDED" | "MODIFIED" => Ok(Some(Change::Put(object))),
        "DELETED" => Ok(Some(Change::Gone(object))),
        "BOOKMARK" => Ok(None),
        _ => Err(ApiError::Malformed("an event of a kind that is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Result<Option<Change>, ApiError>, String) {
        let mut version = "1".to_owned();
        let change = event(text.as_bytes(), &mut version);
        (change, version)
    }

    #[test]
    fn events_change_what_is_known_and_where_the_watch_is() {
        let object = r#"{"metadata":{"name":"a","resourceVersion":"7"}}"#;
        let value: Value = serde_json::from_str(object).unwrap();
        for (kind, expected) in [
            ("ADDED", Some(Change::Put(value.clone()))),
            ("MODIFIED", Some(Change::Put(value.clone()))),
            ("DELETED", Some(Change::Gone(value.clone()))),
            ("BOOKMARK", None),
        ] {
            let (change, version) = parse(&format!(r#"{{"type":"{kind}","object":{object}}}"#));
            assert_eq!(change.unwrap(), expected, "{kind}");
            assert_eq!(version, "7");
        }
    }

    #[test]
    fn an_event_that_is_not_understood_ends_the_watch() {
        for (text, expected) in [
            ("", "an answer is not"),
            ("[]", "an answer is not"),
            (r#"{"type":"ADDED"}"#, "an answer is not"),
            (r#"{"type":"ADDED","object":{}}"#, "an answer is not"),
            (
                r#"{"type":"NEW","object":{"metadata":{"resourceVersion":"7"}}}"#,
                "an answer is not",
            ),
            (
                r#"{"type":"ERROR","object":{"code":410}}"#,
                "what the watch",
            ),
            (
                r#"{"type":"ERROR","object":{"code":99999999}}"#,
                "status 500",
            ),
        ] {
            let (change, _) = parse(text);
            assert!(
                change.unwrap_err().to_string().starts_with(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn selectors_are_escaped() {
        let query = Query {
            path: "/api/v1/pods".to_owned(),
            selector: Some(("fieldSelector", "spec.nodeName=n1&x=y".to_owned())),
        };
        assert_eq!(
            path_of(&query),
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1%26x%3Dy&"
        );
        let all = Query {
            selector: None,
            ..query
        };
        assert_eq!(path_of(&all), "/api/v1/pods?");
    }
}
