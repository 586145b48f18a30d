//! The embedded objects.

/// ELF needs alignment, which `include_bytes!` alone does not give.
#[repr(C, align(32))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/weir-programs.o"
)));

static LINEAGE: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/weir-lineage.o")));

/// Empty when it was built with `WEIR_SKIP_EBPF`.
pub(crate) fn bytes() -> &'static [u8] {
    &OBJECT.0
}

/// As above, of process lineage.
pub(crate) fn lineage_bytes() -> &'static [u8] {
    &LINEAGE.0
}
