//! Context fields, read and written one by one: merged accesses are refused by the verifier.

/// Reads one field of a context volatilely.
macro_rules! field {
    ($ctx:expr, $($path:tt)+) => {
        // SAFETY: the kernel passes a valid context; the field is read as the verifier expects.
        unsafe { core::ptr::read_volatile(&raw const (*$ctx).$($path)+) }
    };
}

/// Writes one field of a context volatilely.
macro_rules! set_field {
    ($ctx:expr, $field:ident $([$index:literal])? = $value:expr) => {
        // SAFETY: as for reading.
        unsafe { core::ptr::write_volatile(&raw mut (*$ctx).$field $([$index])?, $value) }
    };
}

pub(crate) use {field, set_field};

/// `::ffff:0:0/96` in the third word, network byte order.
pub(crate) const MAPPED: u32 = 0x0000_ffff_u32.to_be();

/// An IPv4 address (network byte order) in its IPv6 form.
#[inline(always)]
pub(crate) const fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, MAPPED, v4]
}

#[inline(always)]
pub(crate) const fn is_mapped(addr: &[u32; 4]) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == MAPPED
}
