//! The HTTP front.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::answer::{Body, Failure, full, success};
use crate::engine::{Connection, Engine};
use crate::frames::Frames;
use crate::request::{Bearers, Request, Role};
use crate::sql;

/// Clients connected at a time.
const CONNECTIONS_MAX: usize = 64;
/// Requests inside the engine at a time.
const RUNNING_MAX: usize = 16;
/// Bytes of SQL with its parameters.
const SQL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longer than the two seconds after which clients drop idle connections.
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// A body that brings nothing for so long is given up.
const BODY_SILENCE_MAX: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(10);

/// What a reader gets, whatever it asked for.
const READER_LIMITS: &[(&str, &str)] = &[
    ("readonly", "1"),
    ("max_execution_time", "60"),
    ("max_memory_usage", "1000000000"),
    ("max_result_bytes", "268435456"),
    ("result_overflow_mode", "throw"),
];

struct Shared {
    engine: Arc<Engine>,
    bearers: Arc<Bearers>,
    running: Arc<Semaphore>,
}

/// Serves until SIGTERM or SIGINT; inserts under way are finished.
///
/// # Errors
/// The signals cannot be watched.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    engine: Arc<Engine>,
    bearers: Arc<Bearers>,
) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).context("watching SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("watching SIGINT")?;
    let running = Arc::new(Semaphore::new(RUNNING_MAX));
    let shared = Arc::new(Shared {
        engine,
        bearers,
        running: Arc::clone(&running),
    });
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(respond(&shared, request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    let all = u32::try_from(RUNNING_MAX).context("counting")?;
    if tokio::time::timeout(DRAIN, running.acquire_many(all))
        .await
        .is_err()
    {
        tracing::warn!("requests were still running at the end");
    }
    Ok(())
}

type Accepted = (tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit);

async fn accept(
    listener: &tokio::net::TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<Accepted> {
    let permit = Arc::clone(connections)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn respond(shared: &Arc<Shared>, request: hyper::Request<Incoming>) -> Response<Body> {
    match answer(shared, request).await {
        Ok(response) => response,
        Err(failure) => failure.response(),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let query = request.uri().query().unwrap_or_default();
    let ping = request.uri().path() == "/ping" || query.is_empty();
    if request.method() == Method::GET && ping {
        return Ok(Response::new(full("Ok.\n")));
    }
    let role = shared.bearers.role(request.headers())?;
    if request.uri().path() != "/" {
        return Err(Failure::new(404, "there is nothing at this path"));
    }
    let mut asked = Request::parse(query)?;
    // The semaphore is never closed.
    let permit = Arc::clone(&shared.running)
        .acquire_owned()
        .await
        .map_err(|_| Failure::new(202, "the store is stopping"))?;
    let engine = Arc::clone(&shared.engine);
    let is_insert = asked
        .query
        .trim_start()
        .get(..6)
        .is_some_and(|w| w.eq_ignore_ascii_case("insert"));
    if is_insert && role != Role::Reader {
        let insert = sql::insert(&asked.query)?;
        let (send, receive) = mpsc::channel(4);
        let work = Insert {
            insert,
            settings: asked.settings,
            database: asked.database,
        };
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work.run(&engine, receive)
        });
        let fed = feed(request.into_body(), asked.decompress, send).await;
        let written = joined(task.await)?;
        fed?;
        let mut response = success(full(Bytes::new()), "");
        let summary = format!("{{\"written_rows\":\"{written}\"}}");
        if let Ok(value) = summary.parse() {
            response.headers_mut().insert("X-ClickHouse-Summary", value);
        }
        return Ok(response);
    }
    if role == Role::Writer {
        return Err(Failure::new(
            497,
            "the writer may only insert into fact and batch",
        ));
    }
    let (head, body) = request.into_parts();
    let collected = Limited::new(body, SQL_BYTES_MAX).collect();
    let body = tokio::time::timeout(BODY_SILENCE_MAX, collected)
        .await
        .map_err(|_| Failure::new(209, "the query did not arrive in time"))?
        .map_err(|_| Failure::new(62, "the query is longer than 4 MiB, or was cut off"))?
        .to_bytes();
    asked.body(&head.headers, &body)?;
    select(engine, role, asked, permit).await
}

fn joined<T>(task: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    task.unwrap_or_else(|_| Err(Failure::new(1001, "a worker of the store panicked")))
}

enum Piece {
    Data(Bytes),
    /// All of the body came, and came whole.
    End,
}

/// Passes the body on in pieces; an incomplete one never sends `End`, so its insert is cancelled.
async fn feed(
    mut body: Incoming,
    decompress: bool,
    to: mpsc::Sender<Piece>,
) -> Result<(), Failure> {
    let mut frames = Frames::default();
    let bad = |error: crate::frames::FrameError| Failure::new(33, error);
    loop {
        let next = tokio::time::timeout(BODY_SILENCE_MAX, body.frame())
            .await
            .map_err(|_| Failure::new(209, "the body stopped arriving"))?;
        let Some(frame) = next else { break };
        let frame = frame.map_err(|_| Failure::new(210, "the body was cut off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if decompress {
            frames.push(&data);
            while let Some(raw) = frames.next().map_err(bad)? {
                if to.send(Piece::Data(raw)).await.is_err() {
                    // The insert failed already; its own error is the answer.
                    return Ok(());
                }
            }
        } else if to.send(Piece::Data(data)).await.is_err() {
            return Ok(());
        }
    }
    frames.end().map_err(bad)?;
    // A receiver that is gone has an error of its own.
    drop(to.send(Piece::End).await);
    Ok(())
}

struct Insert {
    insert: sql::Insert,
    settings: Vec<(String, String)>,
    database: Option<String>,
}

impl Insert {
    fn run(self, engine: &Engine, mut pieces: mpsc::Receiver<Piece>) -> Result<u64, Failure> {
        let connection = open(engine, &self.settings, self.database.as_deref())?;
        let mut inserting = connection.insert(&self.insert.statement, &self.insert.format)?;
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Data(bytes) => inserting.append(&bytes)?,
                Piece::End => return inserting.finish(),
            }
        }
        // Dropping cancels: nothing of it is stored.
        Ok(0)
    }
}

fn open(
    engine: &Engine,
    settings: &[(String, String)],
    database: Option<&str>,
) -> Result<Connection, Failure> {
    let connection = engine.connection(settings)?;
    if let Some(database) = database {
        // A plain name: `Request::parse` lets no other through.
        connection.query(&format!("USE `{database}`"), "TabSeparated", &[])?;
    }
    Ok(connection)
}

/// Formats whose pieces may follow each other as they come.
const STREAMED: &[&str] = &["JSONEachRow", "TabSeparated", "TSV", "CSV", "RowBinary"];

async fn select(
    engine: Arc<Engine>,
    role: Role,
    mut asked: Request,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<Response<Body>, Failure> {
    let format = asked
        .format
        .take()
        .unwrap_or_else(|| "TabSeparated".to_owned());
    if role == Role::Reader {
        asked
            .settings
            .retain(|(name, _)| !READER_LIMITS.iter().any(|(limit, _)| limit == name));
        let limits = READER_LIMITS
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        asked.settings.extend(limits);
    }
    let (to, mut pieces) = mpsc::channel::<Vec<u8>>(2);
    let (tell, told) = oneshot::channel::<Result<(), Failure>>();
    let wanted = format.clone();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let outcome = run(&engine, role, &asked, &wanted, &to);
        drop(to);
        // A client that left does not need the outcome.
        drop(tell.send(outcome));
    });
    let first = pieces.recv().await;
    if first.is_none() {
        told.await
            .unwrap_or_else(|_| Err(Failure::new(1001, "a worker panicked")))?;
        return Ok(success(full(Bytes::new()), &format));
    }
    let (send, body) = mpsc::channel::<io::Result<Frame<Bytes>>>(2);
    tokio::spawn(async move {
        let mut next = first;
        while let Some(piece) = next {
            if send.send(Ok(Frame::data(piece.into()))).await.is_err() {
                return;
            }
            next = pieces.recv().await;
        }
        // A failure after the first byte cuts the connection: what came is not taken for all.
        if !matches!(told.await, Ok(Ok(()))) {
            drop(
                send.send(Err(io::Error::other("the query failed half-way")))
                    .await,
            );
        }
    });
    let stream = StreamBody::new(Receiving(body));
    Ok(success(stream.boxed_unsync(), &format))
}

fn run(
    engine: &Engine,
    role: Role,
    asked: &Request,
    format: &str,
    to: &mpsc::Sender<Vec<u8>>,
) -> Result<(), Failure> {
    let connection = open(engine, &asked.settings, asked.database.as_deref())?;
    let statement = match role {
        Role::Reader => {
            let text = ("q".to_owned(), escaped(&asked.query));
            let one = connection.query(
                "SELECT formatQuerySingleLine({q:String})",
                "TSVRaw",
                &[text],
            )?;
            sql::wrap(&String::from_utf8_lossy(&one))?
        }
        Role::Writer | Role::Migrator => asked.query.clone(),
    };
    if role == Role::Reader && STREAMED.contains(&format) {
        return connection.stream(&statement, format, &asked.parameters, |piece| {
            to.blocking_send(piece).is_ok()
        });
    }
    let bytes = connection.query(&statement, format, &asked.parameters)?;
    if !bytes.is_empty() {
        // A client that left does not need the result.
        drop(to.blocking_send(bytes));
    }
    Ok(())
}

/// As the engine reads parameters: the escaped form of TabSeparated.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r")
}

/// A channel as a stream.
struct Receiving(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl futures_core::Stream for Receiving {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
