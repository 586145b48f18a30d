//! Accepted sockets and the origin that belongs to each.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use weir_model::addr::NetnsCookie;
use weir_model::fault::{Fault, FaultKind};
use weir_model::flow::FlowOrigin;

/// Where origins come from: the accepted-socket storage of the kernel programs.
pub trait OriginSource: Send + Sync {
    /// `Ok(None)` when the socket has no record, which is how a connection that was not
    /// redirected by us looks.
    ///
    /// # Errors
    /// The kernel refused the look-up; the caller treats it as no origin. `NotConnected`: there was
    /// one, and the other end is gone.
    fn origin(&self, socket: BorrowedFd<'_>) -> std::io::Result<Option<FlowOrigin>>;
}

/// One listening socket inside one workload's namespace, made and kept by the broker.
#[derive(Debug)]
pub struct Listener {
    pub workload: Arc<str>,
    pub netns: NetnsCookie,
    pub addr: SocketAddr,
    pub socket: OwnedFd,
}

/// A flow with its proof of where it was going. There is no other way to make one.
#[derive(Debug)]
pub struct Accepted {
    stream: std::net::TcpStream,
    origin: FlowOrigin,
    workload: Arc<str>,
}

impl Accepted {
    /// The parts, for the relay.
    #[must_use]
    pub fn into_parts(self) -> (std::net::TcpStream, FlowOrigin, Arc<str>) {
        (self.stream, self.origin, self.workload)
    }

    #[must_use]
    pub const fn origin(&self) -> &FlowOrigin {
        &self.origin
    }
}

/// Why an accepted socket was closed at once.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the connection did not come through the redirect")]
    NoOrigin,
    #[error("the agent left before it was accepted")]
    Left,
    #[error("the origin could not be read: {0}")]
    Lookup(std::io::Error),
    #[error("the origin belongs to another network namespace")]
    ForeignNamespace,
}

impl Fault for Refused {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NoOrigin | Self::Left | Self::ForeignNamespace => FaultKind::PeerMisbehaved,
            Self::Lookup(_) => FaultKind::Kernel,
        }
    }
}

/// Binds a freshly accepted socket to its origin; without one it is dropped, which closes it.
///
/// # Errors
/// See [`Refused`].
pub fn with_origin(
    stream: std::net::TcpStream,
    listener: &Listener,
    origins: &dyn OriginSource,
) -> Result<Accepted, Refused> {
    let origin = origins
        .origin(stream.as_fd())
        .map_err(|error| {
            // Its origin was there, its other end is not.
            if error.kind() == std::io::ErrorKind::NotConnected {
                Refused::Left
            } else {
                Refused::Lookup(error)
            }
        })?
        .ok_or(Refused::NoOrigin)?;
    if origin.netns != listener.netns {
        return Err(Refused::ForeignNamespace);
    }
    Ok(Accepted {
        stream,
        origin,
        workload: Arc::clone(&listener.workload),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use weir_model::addr::{CgroupId, ClientAddr, OrigDst, SocketCookie};

    use super::*;

    struct Fixed(Option<FlowOrigin>);

    impl OriginSource for Fixed {
        fn origin(&self, _socket: BorrowedFd<'_>) -> std::io::Result<Option<FlowOrigin>> {
            Ok(self.0.clone())
        }
    }

    fn origin(netns: u64) -> FlowOrigin {
        let addr: SocketAddr = "192.0.2.1:5432".parse().unwrap();
        FlowOrigin {
            dst: OrigDst(addr),
            client: ClientAddr(addr),
            pid: 1,
            tid: 1,
            uid: 0,
            cgroup: CgroupId(1),
            netns: NetnsCookie(netns),
            cookie: SocketCookie(1),
            start_boottime_ns: 1,
            connected_ktime_ns: 1,
            comm: String::new(),
        }
    }

    fn pair() -> (TcpStream, Listener) {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let client = TcpStream::connect(addr).unwrap();
        let listener = Listener {
            workload: Arc::from("analyst"),
            netns: NetnsCookie(7),
            addr,
            socket: socket.into(),
        };
        (client, listener)
    }

    #[test]
    fn a_socket_without_origin_is_refused() {
        let (stream, listener) = pair();
        let refused = with_origin(stream, &listener, &Fixed(None)).unwrap_err();
        assert!(matches!(refused, Refused::NoOrigin));
    }

    #[test]
    fn an_origin_of_another_namespace_is_refused() {
        let (stream, listener) = pair();
        let refused = with_origin(stream, &listener, &Fixed(Some(origin(8)))).unwrap_err();
        assert!(matches!(refused, Refused::ForeignNamespace));
    }

    #[test]
    fn an_origin_of_this_namespace_is_bound_to_the_workload() {
        let (stream, listener) = pair();
        let accepted = with_origin(stream, &listener, &Fixed(Some(origin(7)))).unwrap();
        assert_eq!(accepted.origin().pid, 1);
        assert_eq!(&*accepted.into_parts().2, "analyst");
    }
}
