//! Connections to the protected server, made when a request needs one and kept for the flow.

use std::cell::RefCell;
use std::future::Future;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version, header, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use weir_govern::Forwarded;

use crate::local::LocalExec;

/// Idle HTTP/1.1 connections that one flow keeps.
const IDLE_MAX: usize = 8;
/// Of a reply's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a reply.
const HEADERS_MAX: usize = 128;

/// Opens a connection to the target that was checked to be it.
pub trait Dial: 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// A proven connection and whether HTTP/2 was agreed on.
    ///
    /// # Errors
    /// A text for the operator.
    fn dial(&self) -> impl Future<Output = Result<(Self::Io, bool), String>>;

    /// A proven connection on which HTTP/1.1 is spoken.
    ///
    /// # Errors
    /// As [`Dial::dial`].
    fn dial_http1(&self) -> impl Future<Output = Result<Self::Io, String>>;

    /// Name (and port) of the server in `Host`.
    fn authority(&self) -> Authority;
}

/// All connections of one flow to its server.
pub struct Upstream<D> {
    dial: D,
    h1: RefCell<Vec<http1::SendRequest<Full<Bytes>>>>,
    h2: RefCell<Option<http2::SendRequest<Full<Bytes>>>>,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl<D: Dial> Upstream<D> {
    #[must_use]
    pub const fn new(dial: D) -> Self {
        Self {
            dial,
            h1: RefCell::new(Vec::new()),
            h2: RefCell::new(None),
        }
    }

    /// Sends one request; its body is whole.
    ///
    /// # Errors
    /// A text for the operator. The server may or may not have seen the request, so it is never
    /// sent again.
    pub(crate) async fn send(
        &self,
        request: Forwarded<Request<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        let (mut head, body) = request.into_inner().into_parts();
        let sender = self.sender().await?;
        match sender {
            Sender::H1(mut sender) => {
                self.http1_head(&mut head)?;
                let request = Request::from_parts(head, Full::new(body));
                let response = sender.send_request(request).await.map_err(say)?;
                let mut idle = self.h1.borrow_mut();
                if idle.len() < IDLE_MAX {
                    idle.push(sender);
                }
                Ok(response)
            }
            Sender::H2(mut sender) => {
                head.headers.remove(header::HOST);
                head.uri = Uri::builder()
                    .scheme(Scheme::HTTPS)
                    .authority(self.dial.authority())
                    .path_and_query(path(&head))
                    .build()
                    .map_err(say)?;
                head.version = Version::HTTP_2;
                let request = Request::from_parts(head, Full::new(body));
                sender.send_request(request).await.map_err(say)
            }
        }
    }

    /// Sends a request that may take its connection over, on one of its own.
    ///
    /// # Errors
    /// As [`Upstream::send`].
    pub(crate) async fn send_alone(
        &self,
        request: Forwarded<Request<Bytes>>,
    ) -> Result<Response<Incoming>, String> {
        let (mut head, body) = request.into_inner().into_parts();
        let io = TokioIo::new(self.dial.dial_http1().await?);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await
            .map_err(say)?;
        tokio::task::spawn_local(connection.with_upgrades());
        self.http1_head(&mut head)?;
        let request = Request::from_parts(head, Full::new(body));
        sender.send_request(request).await.map_err(say)
    }

    /// Path and host as HTTP/1.1 writes them.
    fn http1_head(&self, head: &mut request::Parts) -> Result<(), String> {
        let authority = self.dial.authority();
        let host = HeaderValue::from_str(authority.as_str()).map_err(say)?;
        head.headers.insert(header::HOST, host);
        head.uri = Uri::builder()
            .path_and_query(path(head))
            .build()
            .map_err(say)?;
        head.version = Version::HTTP_11;
        Ok(())
    }

    async fn sender(&self) -> Result<Sender, String> {
        if let Some(sender) = self.h2.borrow().as_ref().filter(|s| !s.is_closed()) {
            return Ok(Sender::H2(sender.clone()));
        }
        {
            let mut idle = self.h1.borrow_mut();
            idle.retain(|sender| !sender.is_closed());
            // One whose reply is still being read is not ready.
            if let Some(at) = idle.iter().position(http1::SendRequest::is_ready) {
                return Ok(Sender::H1(idle.swap_remove(at)));
            }
        }
        let (io, h2) = self.dial.dial().await?;
        let io = TokioIo::new(io);
        if h2 {
            let (sender, connection) = http2::Builder::new(LocalExec)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .handshake(io)
                .await
                .map_err(say)?;
            tokio::task::spawn_local(connection);
            *self.h2.borrow_mut() = Some(sender.clone());
            return Ok(Sender::H2(sender));
        }
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(io)
            .await
            .map_err(say)?;
        tokio::task::spawn_local(connection);
        Ok(Sender::H1(sender))
    }
}

fn path(head: &request::Parts) -> PathAndQuery {
    let path = head.uri.path_and_query().cloned();
    path.unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}
