//! The device allow-list where the kernel has no tcx (before 6.6): one `cls_bpf` filter of clsact.
//!
//! Everything happens in the calling thread's network namespace. The filter has one fixed place,
//! the first of the first priority: putting it there again replaces the program without a gap,
//! and nothing can be put before it but at the same priority, which [`first`] shows.
//!
//! Source: rtnetlink(7), Linux `include/uapi/linux/pkt_cls.h`, `net/sched/cls_bpf.c`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Says that a filter is ours.
const NAME: &str = "weir_device";
const PRIORITY: u32 = 1;
const HANDLE: u32 = 1;
/// `TC_H_MAKE(TC_H_CLSACT, 0)` and its two directions.
const CLSACT: u32 = 0xffff_0000;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const ETH_P_ALL: u16 = 3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;
const HEADER_BYTES: usize = 16;
const TCMSG_BYTES: usize = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Answers of one dump that are read; a device with more filters is not one that was thought of.
const READS_MAX: usize = 64;
const ANSWER_WITHIN_S: i64 = 2;

/// One filter as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u32,
    pub(crate) handle: u32,
    pub(crate) name: String,
    /// Id of its program; 0 when it has none.
    pub(crate) program: u32,
}

impl Filter {
    fn is_ours(&self) -> bool {
        self.priority == PRIORITY && self.handle == HANDLE && self.name == NAME
    }
}

/// Puts the program on the device's way out, in place of an earlier one of ours. Says whether the
/// queueing discipline was made for it.
///
/// # Errors
/// The kernel has no clsact, another discipline is where it would be, or a filter of someone else
/// holds our place.
pub(crate) fn put(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<bool> {
    let made = make_discipline(ifindex)?;
    if let Some(other) = filters(ifindex, EGRESS)?.first()
        && !other.is_ours()
    {
        // Whoever is before us decides before us. Going in anew puts us at the head.
        tracing::error!(ifindex, filter = ?other, "another filter was before Weir's");
        delete(ifindex)?;
    }
    let mut options = attribute(TCA_BPF_FD, &(program.as_raw_fd() as u32).to_ne_bytes());
    options.extend(attribute(TCA_BPF_NAME, &zero_ended(NAME)));
    options.extend(attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()));
    let mut body = place(ifindex, HANDLE, EGRESS, info());
    body.extend(attribute(TCA_KIND, &zero_ended("bpf")));
    body.extend(attribute(TCA_OPTIONS, &options));
    ask(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE, &body)?;
    match first(ifindex)? {
        Some(filter) if filter.is_ours() => Ok(made),
        other => Err(io::Error::other(format!(
            "the filter is not the first on its device but {other:?}"
        ))),
    }
}

/// The filter that sees frames first.
///
/// # Errors
/// The device is gone, or the kernel does not answer.
pub(crate) fn first(ifindex: u32) -> io::Result<Option<Filter>> {
    Ok(filters(ifindex, EGRESS)?.into_iter().next())
}

/// Takes ours away, and the discipline if it was made for it and holds nothing else.
///
/// # Errors
/// The kernel refused. A device or filter that is not there is no error.
pub(crate) fn remove(ifindex: u32, discipline: bool) -> io::Result<()> {
    if absent(filters(ifindex, EGRESS))?
        .iter()
        .any(Filter::is_ours)
    {
        delete(ifindex)?;
    }
    let empty = absent(filters(ifindex, EGRESS))?.is_empty()
        && absent(filters(ifindex, INGRESS))?.is_empty();
    if discipline && empty {
        let body = place(ifindex, CLSACT, CLSACT_PARENT, 0);
        absent(ask(libc::RTM_DELQDISC, 0, &body))?;
    }
    Ok(())
}

/// An answer of nothing where there is no device, discipline or filter.
fn absent<T>(answer: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match answer {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)
            ) =>
        {
            Ok(Vec::new())
        }
        other => other,
    }
}

fn make_discipline(ifindex: u32) -> io::Result<bool> {
    let mut body = place(ifindex, CLSACT, CLSACT_PARENT, 0);
    body.extend(attribute(TCA_KIND, &zero_ended("clsact")));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    match ask(libc::RTM_NEWQDISC, flags, &body) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn delete(ifindex: u32) -> io::Result<()> {
    let body = place(ifindex, HANDLE, EGRESS, info());
    absent(ask(libc::RTM_DELTFILTER, 0, &body)).map(drop)
}

/// In the order in which frames meet them.
fn filters(ifindex: u32, parent: u32) -> io::Result<Vec<Filter>> {
    let body = place(ifindex, 0, parent, 0);
    let answers = ask(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, &body)?;
    Ok(answers.iter().filter_map(|answer| filter(answer)).collect())
}

const fn info() -> u32 {
    PRIORITY << 16 | ETH_P_ALL.to_be() as u32
}

/// `struct tcmsg`.
fn place(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, ifindex, handle, parent, info]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

fn zero_ended(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// `struct nlattr` and its value, padded to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(ANSWER_WITHIN_S),
    )?;
    Ok(socket)
}

/// Sends one request; the bodies of what came back before its end.
fn ask(kind: u16, flags: i32, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let socket = open()?;
    let dump = flags & libc::NLM_F_DUMP == libc::NLM_F_DUMP;
    let acknowledged = if dump { 0 } else { libc::NLM_F_ACK };
    let flags = (libc::NLM_F_REQUEST | acknowledged | flags) as u16;
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(body);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    for _read in 0..READS_MAX {
        let count = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if take(buffer.get(..count).unwrap_or_default(), &mut answers)? {
            return Ok(answers);
        }
    }
    Err(io::Error::other("the kernel's answer has no end"))
}

/// Reads the messages of one datagram; true at the end of the answer.
fn take(mut rest: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let broken = || io::Error::other("a message of the kernel is broken");
    while !rest.is_empty() {
        let length = word(rest, 0).ok_or_else(broken)? as usize;
        let kind = half(rest, 4).ok_or_else(broken)?;
        let body = rest.get(HEADER_BYTES..length).ok_or_else(broken)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = word(body, 0).ok_or_else(broken)?.cast_signed();
                if code == 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
            }
            _ => answers.push(body.to_vec()),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_ne_bytes(bytes))
}

/// The value of one attribute.
fn value(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(rest, 0)?);
        // Two bits of the kind are flags.
        let kind = half(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

/// `None` for what is no filter: each priority announces itself without a handle.
fn filter(body: &[u8]) -> Option<Filter> {
    let handle = word(body, 8)?;
    let priority = word(body, 16)? >> 16;
    if handle == 0 {
        return None;
    }
    let options = body
        .get(TCMSG_BYTES..)
        .and_then(|rest| value(rest, TCA_OPTIONS));
    let of = |kind| options.and_then(|options| value(options, kind));
    let name = of(TCA_BPF_NAME).unwrap_or_default();
    let name = name.strip_suffix(&[0]).unwrap_or(name);
    Some(Filter {
        priority,
        handle,
        name: String::from_utf8_lossy(name).into_owned(),
        program: of(TCA_BPF_ID).and_then(|bytes| word(bytes, 0)).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(handle: u32, name: &str, program: u32) -> Vec<u8> {
        let mut options = attribute(TCA_BPF_NAME, &zero_ended(name));
        options.extend(attribute(TCA_BPF_ID, &program.to_ne_bytes()));
        let mut body = place(7, handle, EGRESS, info());
        body.extend(attribute(TCA_KIND, &zero_ended("bpf")));
        body.extend(attribute(TCA_OPTIONS, &options));
        body
    }

    #[test]
    fn a_listed_filter_is_read_and_a_priority_is_none() {
        let found = filter(&listed(1, NAME, 42)).unwrap();
        assert!(found.is_ours());
        assert_eq!(found.program, 42);
        assert!(!filter(&listed(2, NAME, 42)).unwrap().is_ours());
        assert!(!filter(&listed(1, "other", 42)).unwrap().is_ours());
        assert_eq!(filter(&listed(0, NAME, 42)), None);
    }

    #[test]
    fn broken_messages_are_errors_and_no_panic() {
        let whole = listed(1, NAME, 42);
        for length in 0..whole.len() {
            let _none = filter(&whole[..length]);
        }
        let mut answers = Vec::new();
        for bytes in [&[1, 0, 0][..], &[8, 0, 0, 0, 44, 0, 0, 0], &[255; 32]] {
            assert!(take(bytes, &mut answers).is_err());
        }
    }

    #[test]
    fn an_acknowledgement_ends_an_answer_and_an_error_is_one() {
        let message = |code: i32| {
            let mut bytes = 20_u32.to_ne_bytes().to_vec();
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        let mut answers = Vec::new();
        assert!(take(&message(0), &mut answers).unwrap());
        let error = take(&message(-libc::EEXIST), &mut answers).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    }
}
