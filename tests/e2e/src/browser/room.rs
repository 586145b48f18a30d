//! A network of the browser's own.
//!
//! Chromium breaks off what it fetches when an interface of its network comes or goes
//! (`ERR_NETWORK_CHANGED`), and labs that come up beside make and remove some. In here nothing
//! changes after its start: loopback, a device that is always up, and one door per origin.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

use crate::until;

type Work = Box<dyn FnOnce() + Send>;

const DOOR_OPENS_WITHIN: Duration = Duration::from_secs(10);

/// A network namespace, entered by one thread that does what it is given. It is gone when that
/// thread, and everything that was started in it, has ended.
pub(super) struct Room {
    work: SyncSender<Work>,
}

impl Room {
    /// A connection inside to the address of one of these origins ends at the same address outside.
    pub(super) fn with_doors_to(origins: &[&str]) -> Result<Self> {
        let room = Self::new()?;
        for origin in origins {
            let (_, place) = origin.split_once("://").context("an origin")?;
            let place: SocketAddr = place
                .trim_end_matches('/')
                .parse()
                .with_context(|| format!("{origin} names no address"))?;
            room.door(place)?;
        }
        Ok(room)
    }

    fn new() -> Result<Self> {
        let (work, given) = sync_channel::<Work>(1);
        let (made, is_made) = sync_channel(1);
        thread::spawn(move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
            let usable = entered.is_ok();
            // Whoever asked is waiting for it.
            let _waits = made.send(entered);
            if usable {
                given.into_iter().for_each(|work| work());
            }
        });
        is_made
            .recv()
            .context("a thread for the browser's network")?
            .context("a network namespace for the browser needs root")?;
        let room = Self { work };
        for arguments in [
            "link set lo up",
            // A network of loopback alone is offline to a browser.
            "link add room0 type veth peer name room1",
            // Nor may an address come later: a link-local one is announced once nobody objected.
            "link set room0 addrgenmode none",
            "link set room1 addrgenmode none",
            "link set room1 up",
            "link set room0 up",
            "address add 192.0.2.1/24 dev room0",
        ] {
            room.ip(arguments)?;
        }
        // The kernel says up to a second later that a device is up.
        until("the browser's network", DOOR_OPENS_WITHIN, || {
            let show = || Command::new("ip").args(["-o", "link", "show"]).output();
            let shown = room.inside(show)?.context("starting ip")?;
            let links = String::from_utf8_lossy(&shown.stdout).into_owned();
            Ok((links.matches("state UP").count() == 2).then_some(()))
        })?;
        Ok(room)
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let done = self.inside(move || Command::new("ip").args(words).status())?;
        ensure!(done.context("starting ip")?.success(), "ip {arguments}");
        Ok(())
    }

    /// Does something inside: what is started, and each socket that is made, stays there.
    pub(super) fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = sync_channel(1);
        let work: Work = Box::new(move || {
            // Whoever asked is waiting for it.
            let _waits = done.send(work());
        });
        let gone = "the browser's network is gone";
        self.work.send(work).ok().context(gone)?;
        result.recv().context(gone)
    }

    /// To a server inside.
    pub(super) fn connect(&self, port: u16) -> Result<TcpStream> {
        let there = (Ipv4Addr::LOCALHOST, port);
        self.inside(move || TcpStream::connect(there))?
            .context("connecting inside the browser's network")
    }

    fn door(&self, place: SocketAddr) -> Result<()> {
        if !place.ip().is_loopback() {
            let bits = match place.ip() {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 128,
            };
            self.ip(&format!("address add {}/{bits} dev lo", place.ip()))?;
        }
        let listener = self.inside(move || TcpListener::bind(place))?;
        let listener = listener.with_context(|| format!("a door to {place}"))?;
        // This thread is outside, and so is what it connects to.
        thread::spawn(move || {
            for inner in listener.incoming().flatten() {
                thread::spawn(move || {
                    if let Ok(outer) = TcpStream::connect_timeout(&place, DOOR_OPENS_WITHIN) {
                        both_ways(inner, outer);
                    }
                });
            }
        });
        Ok(())
    }
}

/// Ends when both directions have.
fn both_ways(one: TcpStream, other: TcpStream) {
    let (Ok(from_other), Ok(to_one)) = (other.try_clone(), one.try_clone()) else {
        return;
    };
    let back = thread::spawn(move || pour(from_other, to_one));
    pour(one, other);
    // A thread that panicked has nothing more to say.
    let _ended = back.join();
}

fn pour(mut from: TcpStream, mut to: TcpStream) {
    // A connection that breaks off ends on the other side, too.
    let _broke = io::copy(&mut from, &mut to);
    let _over = to.shutdown(Shutdown::Write);
}
