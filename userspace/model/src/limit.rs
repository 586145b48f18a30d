//! Limits that more than one stage must agree on.

/// Bytes of argv kept as evidence; longer is cut with a mark.
pub const ARGV_BYTES_MAX: usize = 4096;
/// Parents listed as evidence.
pub const PARENTS_MAX: usize = 16;
/// Accesses that one statement may have before it is refused as too complex.
pub const ACCESSES_MAX: usize = 4096;
/// Bytes of one encoded fact; what does not fit is refused, never cut.
pub const FACT_BYTES_MAX: usize = 32 * 1024 * 1024;
