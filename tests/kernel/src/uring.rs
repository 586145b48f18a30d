//! As much of io_uring as an attempt needs: one entry at a time.
//!
//! Source: Linux `include/uapi/linux/io_uring.h`.

#![expect(
    unsafe_code,
    reason = "rings are memory that is shared with the kernel"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::calls::{self, Addr};

/// `IORING_SETUP_SQPOLL`: a kernel thread takes entries.
pub const SQPOLL: u32 = 2;
const OP_CONNECT: u8 = 16;
const OP_SEND: u8 = 26;
const OP_SOCKET: u8 = 45;
const OP_COMMAND: u8 = 46;
const COMMAND_SETSOCKOPT: u64 = 3;
const ENTER_GETEVENTS: u32 = 1;
const ENTER_WAKEUP: u32 = 2;
const OFF_SQ: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;
const RING_BYTES: usize = 8192;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Entry {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_index: u16,
    personality: u16,
    file_index: u32,
    addr3: u64,
    pad: u64,
}

/// A ring of four entries.
pub struct Ring {
    fd: OwnedFd,
    ring: *mut u8,
    entries: *mut Entry,
    sq: [u32; 10],
    cq: [u32; 10],
    sqpoll: bool,
}

impl Ring {
    /// # Errors
    /// The kernel has no io_uring, or forbids it.
    pub fn new(flags: u32) -> io::Result<Self> {
        let mut params = [0_u32; 30];
        params[2] = flags;
        params[4] = 1000;
        // SAFETY: the parameters are 120 bytes, as the kernel writes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, params.as_mut_ptr()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = calls::adopt(fd)?;
        let mut sq = [0; 10];
        let mut cq = [0; 10];
        sq.copy_from_slice(&params[10..20]);
        cq.copy_from_slice(&params[20..30]);
        let ring = calls::map_shared(&fd, RING_BYTES, OFF_SQ)?;
        let entries = calls::map_shared(&fd, 4096, OFF_SQES)?.cast();
        Ok(Self {
            fd,
            ring,
            entries,
            sq,
            cq,
            sqpoll: flags & SQPOLL != 0,
        })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the offset is the kernel's, within the mapping, aligned to four bytes.
        unsafe { AtomicU32::from_ptr(self.ring.add(offset as usize).cast()) }
    }

    /// Submits one entry and waits for its result.
    fn run(&mut self, entry: Entry) -> io::Result<i32> {
        let (tail, mask, array) = (self.sq[1], self.sq[2], self.sq[6]);
        let at = self.word(tail).load(Ordering::Acquire);
        let slot = at & self.word(mask).load(Ordering::Relaxed);
        // SAFETY: the slot is below the number of entries, which fit the mapping.
        unsafe { *self.entries.add(slot as usize) = entry };
        self.word(array + slot * 4).store(slot, Ordering::Relaxed);
        self.word(tail).store(at.wrapping_add(1), Ordering::Release);
        let flags = if self.sqpoll {
            ENTER_GETEVENTS | ENTER_WAKEUP
        } else {
            ENTER_GETEVENTS
        };
        // SAFETY: no memory of ours is passed.
        let code = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                1_u32,
                1_u32,
                flags,
                std::ptr::null::<u8>(),
                0_usize,
            )
        };
        if code < 0 {
            return Err(io::Error::last_os_error());
        }
        let (head, cmask, cqes) = (self.cq[0], self.cq[2], self.cq[5]);
        let first = self.word(head).load(Ordering::Acquire);
        let slot = first & self.word(cmask).load(Ordering::Relaxed);
        // A completion: user_data u64, res i32, flags u32.
        let result = self.word(cqes + slot * 16 + 8).load(Ordering::Acquire);
        self.word(head)
            .store(first.wrapping_add(1), Ordering::Release);
        let result = result.cast_signed();
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        Ok(result)
    }

    /// # Errors
    /// As `connect(2)`.
    pub fn connect(&mut self, socket: &OwnedFd, to: &Addr) -> io::Result<()> {
        self.run(Entry {
            opcode: OP_CONNECT,
            fd: socket.as_raw_fd(),
            addr: to.0.as_ptr() as u64,
            off: to.0.len() as u64,
            ..Entry::default()
        })
        .map(drop)
    }

    /// # Errors
    /// As `socket(2)`.
    pub fn socket(&mut self, family: i32, kind: i32) -> io::Result<OwnedFd> {
        let fd = self.run(Entry {
            opcode: OP_SOCKET,
            fd: family,
            off: u64::try_from(kind).map_err(io::Error::other)?,
            ..Entry::default()
        })?;
        calls::adopt(i64::from(fd))
    }

    /// `setsockopt(2)` of a number, by (level, name).
    ///
    /// # Errors
    /// As the call; `EOPNOTSUPP` before Linux 6.7.
    pub fn set_int(&mut self, socket: &OwnedFd, what: (i32, i32), value: i32) -> io::Result<()> {
        let (level, name) = (what.0.cast_unsigned(), what.1.cast_unsigned());
        self.run(Entry {
            opcode: OP_COMMAND,
            fd: socket.as_raw_fd(),
            off: COMMAND_SETSOCKOPT,
            // level and optname share the address' place, optlen and optval the two others'.
            addr: u64::from(level) | u64::from(name) << 32,
            file_index: 4,
            addr3: std::ptr::from_ref(&value) as u64,
            ..Entry::default()
        })
        .map(drop)
    }

    /// `sendto(2)`.
    ///
    /// # Errors
    /// As the call.
    pub fn send_to(&mut self, socket: &OwnedFd, bytes: &[u8], to: &Addr) -> io::Result<()> {
        let length = u32::try_from(to.0.len()).map_err(io::Error::other)?;
        self.run(Entry {
            opcode: OP_SEND,
            fd: socket.as_raw_fd(),
            addr: bytes.as_ptr() as u64,
            len: u32::try_from(bytes.len()).map_err(io::Error::other)?,
            // addr2 and addr_len, which share their places with off and file_index.
            off: to.0.as_ptr() as u64,
            file_index: length,
            ..Entry::default()
        })
        .map(drop)
    }
}
