//! A sign-in by browser: opens it, and waits on a loopback port for it to come back (RFC 8252,
//! section 7.3). What it brings is handed to the node unread, but for `state`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid};
use url::Url;

use crate::admin::api::{BrowserAnswer, BrowserStart, LoginState, Who};
use crate::admin::client::AdminClient;
use crate::output;

/// As long as the node keeps the sign-in.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// A browser sends its request at once.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: u64 = 32 * 1024;

/// How somebody signs in.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct WayArgs {
    /// By the browser of this machine, even where none was found (the address is printed)
    #[arg(long, conflicts_with = "device")]
    browser: bool,
    /// By a code that is entered on any other machine
    #[arg(long)]
    device: bool,
}

impl WayArgs {
    /// A browser where there is one; asking for either decides it.
    pub(crate) fn by_browser(self) -> bool {
        self.browser || (!self.device && opener().is_some())
    }
}

/// Whom the browser belongs to, where it is opened.
pub(crate) type Owner = Option<(Uid, Gid)>;

#[expect(
    clippy::disallowed_methods,
    reason = "desktop and sudo say who is there in the environment, and nowhere else"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The person in front of `sudo`.
pub(crate) fn sudoer() -> Owner {
    let number = |name: &str| variable(name)?.parse::<u32>().ok();
    let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
    Some((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// What opens an address: `$BROWSER`, or `xdg-open` on a desktop.
fn opener() -> Option<String> {
    if let Some(browser) = variable("BROWSER") {
        return Some(browser);
    }
    variable("DISPLAY").or_else(|| variable("WAYLAND_DISPLAY"))?;
    let path = variable("PATH")?;
    path.split(':')
        .map(|folder| Path::new(folder).join("xdg-open"))
        .find(|program| program.is_file())
        .and_then(|program| program.to_str().map(str::to_owned))
}

/// Never as root: a browser is a large program.
fn open(url: &str, owner: Owner) -> bool {
    let (Some(program), Some((uid, gid))) = (opener(), owner) else {
        return false;
    };
    if uid.is_root() {
        return false;
    }
    Command::new(program)
        .arg(url)
        .uid(uid.as_raw())
        .gid(gid.as_raw())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .is_ok()
}

/// A sign-in from its first request to its outcome. `begin` posts the redirect and gets the address
/// to open, `answer` is the path of the node's route for what came back.
///
/// # Errors
/// Nobody signed in in time, or the sign-in was refused.
pub(crate) fn sign_in(
    client: &AdminClient,
    (owner, json): (Owner, bool),
    begin: impl FnOnce(String) -> Result<BrowserStart>,
    answer: &str,
) -> Result<Who> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a loopback port")?;
    let port = listener.local_addr().context("a loopback port")?.port();
    let start = begin(format!("http://127.0.0.1:{port}/"))?;
    let url: Url = start.url.parse().context("the address to open")?;
    let state = url.query_pairs().find(|(name, _)| name == "state");
    let state = state.context("the address to open has no state")?.1;
    if json {
        output::data(&serde_json::to_string(&start)?);
    } else if open(&start.url, owner) {
        output::note(&format!(
            "Sign in in the browser; if none opened, open\n  {}",
            start.url
        ));
    } else {
        output::note(&format!("Open on this machine\n  {}", start.url));
    }
    let (query, mut browser) = come_back(&listener, &state)?;
    let outcome = client.post(answer, &BrowserAnswer { query });
    let (text, outcome) = match outcome {
        Ok(LoginState::SignedIn { who }) => ("Signed in. This window can be closed.", Ok(who)),
        Ok(LoginState::Refused { reason }) => (
            "The sign-in was refused; the terminal says why.",
            Err(anyhow::anyhow!("the sign-in was refused: {reason}")),
        ),
        Ok(LoginState::Pending) => ("", Err(anyhow::anyhow!("the node did not decide"))),
        Err(error) => ("The sign-in failed; the terminal says why.", Err(error)),
    };
    // A browser that left is told nothing.
    let _left = say(&mut browser, "200 OK", text);
    outcome
}

/// The query of the one request that names this sign-in's state; all others are turned away.
fn come_back(listener: &TcpListener, state: &str) -> Result<(String, TcpStream)> {
    let begun_us = weir_clock::now().mono_us;
    loop {
        let waited_us = weir_clock::now().mono_us.saturating_sub(begun_us);
        let left = WAIT_MAX.saturating_sub(Duration::from_micros(waited_us));
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, wait).context("waiting for the browser")? == 0 {
            bail!("nobody signed in in time; start again");
        }
        let (mut browser, _) = listener.accept().context("the browser's connection")?;
        match asked(&browser) {
            Ok(Some(query)) if names(&query, state) => return Ok((query, browser)),
            Ok(_) => {
                let _left = say(&mut browser, "404 Not Found", "Nothing is here.");
            }
            // Whatever connected was no browser.
            Err(_) => {}
        }
    }
}

fn names(query: &str, state: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, value)| name == "state" && value == state)
}

/// The query of `GET /?…`; `None` for any other request.
fn asked(browser: &TcpStream) -> std::io::Result<Option<String>> {
    browser.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    let mut reader = BufReader::new(browser.take(REQUEST_BYTES_MAX));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    // To the end of the head: a browser whose request is not read sees a reset.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(query_of(&first))
}

fn query_of(request_line: &str) -> Option<String> {
    let mut words = request_line.split_ascii_whitespace();
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if method != "GET" || !version.starts_with("HTTP/1.") || words.next().is_some() {
        return None;
    }
    target.strip_prefix("/?").map(str::to_owned)
}

fn say(browser: &mut TcpStream, status: &str, text: &str) -> std::io::Result<()> {
    let page = format!("<!doctype html><title>Weir</title><p>{text}</p>\n");
    write!(
        browser,
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n{page}",
        page.len()
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::{come_back, query_of};

    #[test]
    fn only_a_request_for_the_redirect_has_a_query() {
        assert_eq!(
            query_of("GET /?code=a&state=b HTTP/1.1\r\n").as_deref(),
            Some("code=a&state=b")
        );
        for line in [
            "",
            "GET / HTTP/1.1",
            "GET /favicon.ico HTTP/1.1",
            "POST /?code=a HTTP/1.1",
            "GET /?code=a b HTTP/1.1",
            "GET /?code=a",
            "GET /?code=a SPDY/3",
            "GET /x?code=a HTTP/1.1",
        ] {
            assert_eq!(query_of(line), None, "{line}");
        }
    }

    #[test]
    fn whoever_does_not_know_the_state_is_turned_away_and_the_wait_goes_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let others = std::thread::spawn(move || {
            let mut answers = Vec::new();
            for target in ["/?code=x&state=guess", "/favicon.ico"] {
                let mut stream = TcpStream::connect(addr).unwrap();
                write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                answers.push(answer);
            }
            let mut stream = TcpStream::connect(addr).unwrap();
            stream
                .write_all(b"GET /?code=x&state=right HTTP/1.1\r\nhost: x\r\n\r\n")
                .unwrap();
            (answers, stream)
        });
        let (query, _browser) = come_back(&listener, "right").unwrap();
        assert_eq!(query, "code=x&state=right");
        let (answers, _stream) = others.join().unwrap();
        assert!(
            answers
                .iter()
                .all(|answer| answer.starts_with("HTTP/1.1 404"))
        );
    }
}
