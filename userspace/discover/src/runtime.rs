//! A container runtime followed: everything that is there, again after each event.
//!
//! The node cannot ask a runtime by itself, since whoever may write to a runtime's socket is root.
//! Somebody else writes one of two requests (HTTP/1.0, so that an answer ends with its connection)
//! and what comes back is read here, from a descriptor that nothing can be written to.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::containers::Container;

/// Some hundred containers with their ports and mounts.
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const LIST_TIME_MAX: Duration = Duration::from_secs(30);
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const PACE: Pace = Pace {
    first: Duration::from_millis(500),
    silence: Duration::from_secs(30),
    apart: Duration::from_millis(20),
};
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// What a runtime can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeQuestion {
    /// All containers, also those that do not run.
    List,
    /// A stream that says something whenever a container comes, goes or is named anew.
    Events,
}

/// How often it is asked.
#[derive(Clone, Copy)]
struct Pace {
    /// As `silence`, but once: nobody says when the runtime took the question for events.
    first: Duration,
    /// A list at least this often: an event may be lost while the runtime restarts.
    silence: Duration,
    /// Lists are this far apart at least, whatever the containers do.
    apart: Duration,
}

#[derive(Debug, thiserror::Error)]
enum RuntimeError {
    #[error("asking: {0}")]
    Ask(String),
    #[error("reading: {0}")]
    Read(#[from] std::io::Error),
    #[error("no answer within its time")]
    Late,
    #[error("the answer ends too soon")]
    Short,
    #[error("the answer is larger than its limit")]
    TooLarge,
    #[error("the answer is not HTTP as it was asked for")]
    Malformed,
    #[error("status {0}")]
    Status(u16),
    #[error("{0}")]
    List(&'static str),
}

/// Says what is there, for ever: at first, after each event, and after a failure.
///
/// Two calls of `changed` never overlap. While the runtime does not answer nothing is said, so what
/// was known stays.
pub async fn follow_runtime<R, A, F>(name: &str, ask: A, mut changed: impl FnMut(Vec<Container>))
where
    R: AsyncRead + Unpin,
    A: Fn(RuntimeQuestion) -> F,
    F: Future<Output = Result<R, String>>,
{
    let mut wait = RETRY_FIRST;
    let mut said = false;
    loop {
        let mut told = false;
        let ended = follow_once(&ask, PACE, |containers| {
            told = true;
            changed(containers);
        });
        let error = match ended.await {
            Ok(()) => RuntimeError::Short,
            Err(error) => error,
        };
        wait = if told {
            RETRY_FIRST
        } else {
            (wait * 2).min(RETRY_LAST)
        };
        if told || !said {
            tracing::warn!(runtime = name, %error, "a container runtime does not answer");
        }
        said = true;
        tokio::time::sleep(wait).await;
    }
}

async fn follow_once<R, A, F>(
    ask: &A,
    pace: Pace,
    mut changed: impl FnMut(Vec<Container>),
) -> Result<(), RuntimeError>
where
    R: AsyncRead + Unpin,
    A: Fn(RuntimeQuestion) -> F,
    F: Future<Output = Result<R, String>>,
{
    // Before the list: what comes in between is told.
    let mut events = ask(RuntimeQuestion::Events)
        .await
        .map_err(RuntimeError::Ask)?;
    // A runtime may keep the head back until there is an event, so it is not waited for.
    let mut head = Some(BytesMut::new());
    let mut said = vec![0; 16 * 1024];
    let mut silence = pace.first;
    loop {
        let listed = timeout(LIST_TIME_MAX, list(ask)).await;
        changed(listed.unwrap_or(Err(RuntimeError::Late))?);
        tokio::time::sleep(pace.apart).await;
        let Ok(read) = timeout(silence, events.read(&mut said)).await else {
            silence = pace.silence;
            continue;
        };
        // What an event says is not looked at: the list says it all.
        let read = read?;
        if read == 0 {
            return Ok(());
        }
        if let Some(text) = head.as_mut() {
            text.extend_from_slice(said.get(..read).unwrap_or_default());
            if head_of(text)?.is_some() {
                head = None;
            }
        }
    }
}

async fn list<R, A, F>(ask: &A) -> Result<Vec<Container>, RuntimeError>
where
    R: AsyncRead + Unpin,
    A: Fn(RuntimeQuestion) -> F,
    F: Future<Output = Result<R, String>>,
{
    let mut answer = ask(RuntimeQuestion::List)
        .await
        .map_err(RuntimeError::Ask)?;
    let mut text = BytesMut::new();
    let length = loop {
        let read = timeout(HEAD_TIME_MAX, answer.read_buf(&mut text)).await;
        if read.map_err(|_elapsed| RuntimeError::Late)?? == 0 {
            return Err(RuntimeError::Short);
        }
        if let Some(head) = head_of(&text)? {
            text.advance(head.bytes);
            break head.body_bytes;
        }
    };
    loop {
        if text.len() > LIST_BYTES_MAX {
            return Err(RuntimeError::TooLarge);
        }
        if answer.read_buf(&mut text).await? == 0 {
            break;
        }
    }
    if length.is_some_and(|length| length != text.len()) {
        return Err(RuntimeError::Short);
    }
    Container::read_list(&text).map_err(RuntimeError::List)
}

struct Head {
    bytes: usize,
    body_bytes: Option<usize>,
}

/// Of a good answer; `None` while it is not whole.
fn head_of(text: &[u8]) -> Result<Option<Head>, RuntimeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response
        .parse(text)
        .map_err(|_error| RuntimeError::Malformed)?;
    let httparse::Status::Complete(bytes) = parsed else {
        return if text.len() > HEAD_BYTES_MAX {
            Err(RuntimeError::TooLarge)
        } else {
            Ok(None)
        };
    };
    match response.code {
        Some(200) => {}
        Some(status) => return Err(RuntimeError::Status(status)),
        None => return Err(RuntimeError::Malformed),
    }
    let mut body_bytes = None;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // RFC 9112, section 6.1: never towards HTTP/1.0.
            return Err(RuntimeError::Malformed);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).ok();
            let length = text.and_then(|text| text.trim().parse().ok());
            body_bytes = Some(length.ok_or(RuntimeError::Malformed)?);
        }
    }
    Ok(Some(Head { bytes, body_bytes }))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use serde_json::json;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const OK: &str = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";

    fn body(digits: &[char]) -> String {
        let entry = |digit: &char| {
            json!({
                "Id": digit.to_string().repeat(64), "Names": ["/a"], "Image": "i",
                "State": "running",
            })
        };
        json!(digits.iter().map(entry).collect::<Vec<_>>()).to_string()
    }

    /// Answers lists from a script; whoever holds the other end of the events makes some.
    struct Script {
        lists: RefCell<VecDeque<String>>,
        events: RefCell<VecDeque<DuplexStream>>,
    }

    impl Script {
        async fn ask(&self, question: RuntimeQuestion) -> Result<DuplexStream, String> {
            match question {
                RuntimeQuestion::Events => {
                    let mut events = self.events.borrow_mut();
                    events.pop_front().ok_or_else(|| "no more".to_owned())
                }
                RuntimeQuestion::List => {
                    let text = self.lists.borrow_mut().pop_front();
                    let text = text.ok_or_else(|| "no more".to_owned())?;
                    let (ours, mut theirs) = duplex(1 << 20);
                    theirs.write_all(text.as_bytes()).await.unwrap();
                    Ok(ours)
                }
            }
        }
    }

    fn script(lists: &[String]) -> (Script, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        let script = Script {
            lists: RefCell::new(lists.iter().cloned().collect()),
            events: RefCell::new(VecDeque::from([ours])),
        };
        (script, theirs)
    }

    fn firsts(containers: &[Container]) -> String {
        let first = |one: &Container| one.id.chars().next();
        containers.iter().filter_map(first).collect()
    }

    #[tokio::test]
    async fn each_event_brings_a_new_list() {
        let lists = [&['a'][..], &['a', 'b'], &['b']].map(|ids| format!("{OK}{}", body(ids)));
        let (script, mut events) = script(&lists);
        let mut said = Vec::new();
        let head = format!("{OK}{{\"Action\":\"create\"}}\n");
        events.write_all(head.as_bytes()).await.unwrap();
        let mut events = Some(events);
        let ask = |question| script.ask(question);
        let ended = follow_once(&ask, PACE, |containers| {
            said.push(firsts(&containers));
            if said.len() == 3 {
                events = None;
            } else if let Some(events) = &mut events {
                // Room is left, so this does not wait.
                let written = events.write_all(b"{}\n");
                futures_now(written);
            }
        });
        ended.await.unwrap();
        assert_eq!(said, ["a", "ab", "b"]);
    }

    /// Polls once what is ready at once.
    fn futures_now(future: impl Future<Output = std::io::Result<()>>) {
        let mut future = std::pin::pin!(future);
        let waker = std::task::Waker::noop();
        let polled = future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_ready());
    }

    #[tokio::test]
    async fn an_answer_that_is_not_whole_and_good_says_nothing() {
        let list = body(&['a']);
        for (answer, expected) in [
            (String::new(), "ends too soon"),
            ("HTTP/1.0 200 OK\r\n".to_owned(), "ends too soon"),
            (format!("HTTP/1.0 500 x\r\n\r\n{list}"), "status 500"),
            (
                format!("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{list}"),
                "ends too soon",
            ),
            (
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{list}"),
                "not HTTP",
            ),
            ("SSH-2.0-x\r\n".to_owned(), "not HTTP"),
            (format!("{OK}{}", &list[..20]), "not JSON"),
            (format!("{OK}{{}}"), "no list"),
            (
                format!("HTTP/1.0 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX)),
                "larger",
            ),
        ] {
            let (script, events) = script(std::slice::from_ref(&answer));
            let ask = |question| script.ask(question);
            let ended = follow_once(&ask, PACE, |containers| {
                panic!("{answer}: {containers:?}");
            });
            let error = ended.await.unwrap_err().to_string();
            assert!(error.contains(expected), "{answer}: {error}");
            drop(events);
        }
    }

    #[tokio::test]
    async fn silence_is_no_proof_that_nothing_happened() {
        let lists = [&['a'][..], &['b']].map(|ids| format!("{OK}{}", body(ids)));
        let (script, events) = script(&lists);
        let mut said = Vec::new();
        let ask = |question| script.ask(question);
        let pace = Pace {
            first: Duration::from_millis(1),
            silence: Duration::from_millis(1),
            ..PACE
        };
        let ended = follow_once(&ask, pace, |containers| {
            said.push(firsts(&containers));
        });
        let error = ended.await.unwrap_err().to_string();
        assert_eq!(
            (said.join(" ").as_str(), error.as_str()),
            ("a b", "asking: no more")
        );
        drop(events);
    }
}
