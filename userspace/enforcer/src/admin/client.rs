//! The command line's end of the admin socket.

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::api::ErrorBody;
use crate::config::Config;

const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks the running node of this configuration.
pub(crate) struct AdminClient {
    socket: std::path::PathBuf,
}

impl AdminClient {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            socket: config.node.run_dir.join("admin.sock"),
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path, &())
    }

    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T> {
        self.call(Method::POST, path, body)
    }

    fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let bytes = runtime.block_on(self.exchange(method, path, serde_json::to_vec(body)?))?;
        let bytes = if bytes.is_empty() {
            b"null".to_vec()
        } else {
            bytes
        };
        serde_json::from_slice(&bytes).context("the node's answer cannot be read")
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "no node answers at {} (is weir node running?)",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "weir")
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body)))?;
        let answer = sender.send_request(request).await.with_context(
            || "the node closed the connection: it admits only root, from outside governed cgroups",
        )?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let bytes = body
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))?
            .to_bytes();
        driver.abort();
        if !status.is_success() {
            match serde_json::from_slice::<ErrorBody>(&bytes) {
                Ok(body) => bail!("{}", body.error),
                Err(_) => bail!("the node answered {status}"),
            }
        }
        Ok(bytes.to_vec())
    }
}
