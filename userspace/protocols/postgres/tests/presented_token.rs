//! The access token as a password: asked for over TLS only, taken whole, never shown.

use bytes::BytesMut;
use weir_govern::{CloseReason, Event, Output, Presented, Session, Side};
use weir_model::time::Now;
use weir_postgres::{PostgresConfig, PostgresSession, SSL_REQUEST};

const NOW: Now = Now {
    mono_us: 1,
    wall_us: 1,
};
const SECRET: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

fn session() -> PostgresSession {
    PostgresSession::new(PostgresConfig {
        tls_offered: true,
        tls_required: true,
        accept_token: true,
        ..PostgresConfig::default()
    })
}

fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0alice\0database\0shop\0\0";
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&length[..], body].concat()
}

fn password(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [b"p", &length[..], body].concat()
}

/// What came of bytes: those for the client, a token, and the reason of an end.
#[derive(Default, Debug)]
struct Came {
    client: Vec<u8>,
    token: Option<Presented>,
    closed: Option<CloseReason>,
    tls: bool,
    identify: bool,
}

fn feed(session: &mut PostgresSession, input: &mut BytesMut) -> Came {
    session.handle_client(input, NOW);
    let mut came = Came::default();
    while let Some(output) = session.poll_output() {
        match output {
            Output::ToClient(bytes) => came.client.extend_from_slice(&bytes.into_bytes()),
            Output::Present(token) => came.token = Some(token),
            Output::Close(reason) => came.closed = Some(reason),
            Output::UpgradeTls(Side::Client) => came.tls = true,
            Output::Identify => came.identify = true,
            other @ (Output::ToServer(_)
            | Output::UpgradeTls(Side::Server)
            | Output::Connect(_)
            | Output::Catalog(_)
            | Output::Hold(_)
            | Output::AbandonHold(_)
            | Output::RegisterCancel(_)
            | Output::AskCancel(_)
            | Output::SendCancel(_)) => {
                panic!("nothing else before the session is bound: {other:?}")
            }
        }
    }
    came
}

/// A session that has asked for the token.
fn asked() -> PostgresSession {
    let mut session = session();
    let came = feed(&mut session, &mut BytesMut::from(&SSL_REQUEST[..]));
    assert!(came.tls && came.client == b"S");
    session.handle(Event::TlsUp(Side::Client), NOW);
    let came = feed(&mut session, &mut BytesMut::from(&startup()[..]));
    assert_eq!(
        came.client, b"R\0\0\0\x08\0\0\0\x03",
        "AuthenticationCleartextPassword"
    );
    assert!(
        !came.identify && came.token.is_none(),
        "nobody is bound before the token is here"
    );
    session
}

#[test]
fn without_tls_no_password_is_asked_for() {
    let mut session = session();
    let came = feed(&mut session, &mut BytesMut::from(&startup()[..]));
    assert_eq!(came.closed, Some(CloseReason::Misbehaved));
    let text = String::from_utf8_lossy(&came.client).into_owned();
    assert!(text.contains("sslmode=verify-full"), "{text}");
    assert!(!came.client.starts_with(b"R"));
    // Even where the configuration would let a session in the clear through.
    let mut lax = PostgresSession::new(PostgresConfig {
        accept_token: true,
        ..PostgresConfig::default()
    });
    let came = feed(&mut lax, &mut BytesMut::from(&startup()[..]));
    assert_eq!(came.closed, Some(CloseReason::Misbehaved));
}

#[test]
fn the_token_is_handed_on_whole_however_it_is_cut() {
    let message = password(format!("{SECRET}\0").as_bytes());
    for cut in 0..message.len() {
        let mut session = asked();
        let mut input = BytesMut::from(&message[..cut]);
        let came = feed(&mut session, &mut input);
        assert!(
            came.token.is_none() && came.closed.is_none(),
            "cut at {cut}"
        );
        input.extend_from_slice(&message[cut..]);
        let came = feed(&mut session, &mut input);
        assert_eq!(
            came.token.map(|token| token.expose().to_owned()).as_deref(),
            Some(SECRET)
        );
        assert!(input.is_empty());
        assert!(
            !session.wants_client(),
            "nothing more until it is validated"
        );
    }
}

#[test]
fn what_is_no_token_message_ends_the_session() {
    let long = password(&[b'a'; 16 * 1024 + 2]);
    for (what, bytes, reason) in [
        ("too long", long, CloseReason::LimitReached),
        ("no terminator", password(b"abc"), CloseReason::Malformed),
        ("empty", password(b""), CloseReason::Malformed),
        ("two texts", password(b"abc\0def\0"), CloseReason::Malformed),
        ("no UTF-8", password(b"\xff\xfe\0"), CloseReason::Malformed),
        (
            "a statement",
            b"Q\0\0\0\x0dselect 1\0".to_vec(),
            CloseReason::Malformed,
        ),
        (
            "a length of 3",
            b"p\0\0\0\x03".to_vec(),
            CloseReason::Malformed,
        ),
        ("good-bye", b"X\0\0\0\x04".to_vec(), CloseReason::ClientLeft),
    ] {
        let mut session = asked();
        let came = feed(&mut session, &mut BytesMut::from(&bytes[..]));
        assert_eq!(came.closed, Some(reason), "{what}");
        assert!(came.token.is_none(), "{what}");
    }
    // The longest that there can be.
    let mut session = asked();
    let mut longest = vec![b'a'; 16 * 1024];
    longest.push(0);
    let came = feed(&mut session, &mut BytesMut::from(&password(&longest)[..]));
    assert!(came.token.is_some());
}

#[test]
fn a_refused_token_is_a_fixed_sentence() {
    let mut session = asked();
    let message = password(b"hunter2\0");
    let came = feed(&mut session, &mut BytesMut::from(&message[..]));
    let token = came.token.unwrap();
    assert_eq!(format!("{token:?}"), "Presented(\u{2026})");
    let text = "weir: refused at step 1";
    session.handle(Event::Unidentified { code: "x", text }, NOW);
    let came = feed(&mut session, &mut BytesMut::new());
    let said = String::from_utf8_lossy(&came.client).into_owned();
    assert!(said.contains(text) && !said.contains("hunter2"), "{said}");
    assert_eq!(came.closed, Some(CloseReason::Unidentified));
}
