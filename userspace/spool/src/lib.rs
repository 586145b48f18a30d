//! The durable local log of facts: format, chain, append. Mints [`Receipt`].
//!
//! Pure: files are behind [`SegmentFile`]. A lane belongs to one thread; its segments follow each
//! other by hash. Layout (all integers little-endian):
//!
//! ```text
//! segment = header, block*, [trailer]
//! header  = magic(8) version(u32) epoch(u32) lane(u32) reserved(u32) segment(u64) node(16) previous(32)
//!           columns: length(u32) text
//! block   = b'B' length(u32) first(u32) count(u32) hash(32) payload(length)
//! payload = (row length(u32) row)*          a row is RowBinary of `weir.fact`
//! trailer = b'T' count(u32) hash(32) signature(64)
//! ```
//! `hash` = BLAKE3(previous hash ‖ first ‖ count ‖ payload); the first block's previous hash is the
//! BLAKE3 of the header.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod encode;
mod lane;
mod read;
pub mod schema;

pub use crate::lane::{
    Lane, LaneStart, Receipt, Receipts, SEGMENT_BYTES_MAX, SegmentFile, SegmentId, SpoolError,
};
pub use crate::read::{
    Block, BlockReader, Header, Inspection, Next, ReadError, Trailer, Verified, chain_rows,
    chain_start, end_is_signed, inspect_segment, read_header, verify_segment,
};
