//! Rings of AF_XDP and of packet sockets, each for one frame.
//!
//! Source: Linux `include/uapi/linux/if_xdp.h` and `if_packet.h`.

#![expect(
    unsafe_code,
    reason = "rings are memory that is shared with the kernel"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::calls::{self, Addr};

const AF_XDP: i32 = 44;
const SOL_XDP: i32 = 283;
const XDP_TX_RING: i32 = 3;
const XDP_UMEM_REG: i32 = 4;
const XDP_UMEM_FILL_RING: i32 = 5;
const XDP_UMEM_COMPLETION_RING: i32 = 6;
const PGOFF_TX_RING: i64 = 0x8000_0000;
const XDP_COPY: u16 = 2;
const UMEM_BYTES: usize = 16 * 4096;
const ENTRIES: i32 = 4;
const XDP_MMAP_OFFSETS: i32 = 1;
const TP_STATUS_SEND_REQUEST: u64 = 1;
/// `TPACKET_HDRLEN` less the link address.
const TPACKET_DATA: usize = 32;

/// One frame through queue 0 of a device, copied.
///
/// # Errors
/// Any step was refused.
pub fn send(device: &str, frame: &[u8]) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(device)?;
    let socket = calls::socket(AF_XDP, libc::SOCK_RAW, 0)?;
    let memory = umem(frame)?;
    let mut register = Vec::new();
    register.extend((memory as u64).to_ne_bytes());
    register.extend((UMEM_BYTES as u64).to_ne_bytes());
    register.extend(4096_u32.to_ne_bytes());
    register.extend([0; 12]);
    calls::set(&socket, SOL_XDP, XDP_UMEM_REG, &register)?;
    for ring in [XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING] {
        calls::set_int(&socket, SOL_XDP, ring, ENTRIES)?;
    }
    let (producer, descriptors) = tx_offsets(&socket)?;
    let ring = calls::map_shared(&socket, descriptors + 16 * 4, PGOFF_TX_RING)?;
    let mut address = Addr::xdp(index);
    address.0[2..4].copy_from_slice(&XDP_COPY.to_ne_bytes());
    // The kernel frees the queue of a socket before us a little after its end.
    let mut bound = calls::bind(&socket, &address);
    for _ in 0..100 {
        if !matches!(&bound, Err(error) if error.raw_os_error() == Some(libc::EBUSY)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        bound = calls::bind(&socket, &address);
    }
    bound?;
    // SAFETY: the offsets are the kernel's, within what was mapped.
    unsafe {
        let descriptor = ring.add(descriptors);
        descriptor.cast::<u64>().write_volatile(0);
        descriptor
            .add(8)
            .cast::<u32>()
            .write_volatile(u32::try_from(frame.len()).map_err(io::Error::other)?);
        descriptor.add(12).cast::<u32>().write_volatile(0);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        ring.add(producer).cast::<u32>().write_volatile(1);
    }
    // SAFETY: no memory of ours is passed.
    let code = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Memory for frames, with ours at its start.
fn umem(frame: &[u8]) -> io::Result<*mut u8> {
    // SAFETY: a new mapping; the frame is far shorter than it.
    unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            UMEM_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(frame.as_ptr(), memory.cast(), frame.len());
        Ok(memory.cast())
    }
}

/// Offsets of producer and descriptors in the ring for sending.
fn tx_offsets(socket: &OwnedFd) -> io::Result<(usize, usize)> {
    let mut offsets = [0_u64; 16];
    let mut length: libc::socklen_t = 128;
    // SAFETY: the kernel writes at most `length` bytes.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_XDP,
            XDP_MMAP_OFFSETS,
            offsets.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    // Four of receiving come first: producer, consumer, descriptors, flags.
    Ok((offsets[4] as usize, offsets[6] as usize))
}

/// Puts one frame into the first slot of a mapped `PACKET_TX_RING`.
///
/// # Errors
/// The ring cannot be mapped.
pub fn fill_packet_ring(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    let ring = calls::map_shared(socket, 4096, 0)?;
    // SAFETY: one block of 4096 bytes is mapped; the frame is far shorter.
    unsafe {
        std::ptr::copy_nonoverlapping(frame.as_ptr(), ring.add(TPACKET_DATA), frame.len());
        ring.add(8)
            .cast::<u32>()
            .write_volatile(u32::try_from(frame.len()).map_err(io::Error::other)?);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        ring.cast::<u64>().write_volatile(TP_STATUS_SEND_REQUEST);
    }
    Ok(())
}
