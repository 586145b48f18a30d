//! Upgraded connections: exec, attach and port-forward as events, decoded and encoded anew.
//!
//! Agent and server speak the same protocol, the one that the server chose among those that the
//! agent offered and Weir knows; events are encoded one by one. Rejected: a protocol per side with
//! events translated between, which needs answers for what only one protocol can say (a v4 client
//! cannot end stdin, SPDY can refuse a single stream) and would hide from the client that its
//! server is old. Sources: RFC 6455; `k8s.io/apimachinery/pkg/util/remotecommand`;
//! `k8s.io/kubelet/pkg/cri/streaming`; draft-mbelshe-httpbis-spdy-00.

mod block;
mod channels;
mod codec;
mod sizes;
mod spdy;
mod upgrade;
mod websocket;

use bytes::Bytes;

pub use self::codec::{Codec, Keys};
pub use self::upgrade::{Offer, Protocol, websocket_accept};

/// Who sent bytes, or gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Agent,
    Server,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Stdin,
    Stdout,
    Stderr,
    /// Of a command: its `Status`.
    Error,
    /// Of a terminal: its size.
    Resize,
    /// Of a forwarded port, both ways.
    Port,
    /// Of a forwarded port: why it failed.
    PortError,
}

/// A stream and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// A channel of WebSocket messages, or a stream of SPDY.
    pub id: u32,
    pub kind: Kind,
    /// The forwarded port; 0 for a command.
    pub port: u16,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The agent opens a stream (SPDY), or the server names a channel's port (WebSocket).
    /// `request` pairs the two streams of one forwarded connection.
    Open {
        stream: Stream,
        request: u32,
        end: bool,
    },
    /// A stream is taken; an answer to `Open`.
    Accepted { id: u32 },
    /// A piece, perhaps empty, perhaps the last of its side.
    Data {
        stream: Stream,
        bytes: Bytes,
        end: bool,
    },
    /// The terminal's size.
    Resize {
        stream: Stream,
        width: u16,
        height: u16,
    },
    /// A stream is given up, by SPDY's status.
    Reset { stream: Stream, status: u32 },
    /// Asks for, or gives, a sign of life.
    Beat(Beat),
    /// The side says no more, by its protocol's status.
    Bye { status: u32 },
}

/// Signs of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Of WebSocket; at most 125 bytes that come back.
    Ping(Bytes),
    Pong(Bytes),
    /// Of SPDY, both ways.
    Spdy(u32),
}

/// A side broke the protocol, or passed a limit; the connection cannot go on. The text is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);
