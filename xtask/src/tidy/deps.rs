//! Who may use whom within the workspace. A change of the architecture changes this table first.

/// Folder → names of workspace crates, without `weir-`, in `[dependencies]`.
pub(super) const TABLE: [(&str, &str); 33] = [
    ("ebpf/abi", ""),
    ("ebpf/lineage", "abi"),
    ("ebpf/programs", "abi"),
    ("userspace/model", ""),
    ("userspace/clock", "model"),
    ("userspace/kernel", "abi model"),
    ("userspace/broker", "kernel model clock"),
    ("userspace/accept", "model clock"),
    ("userspace/identify", "model clock"),
    ("userspace/discover", "model clock"),
    ("userspace/decide", "model"),
    ("userspace/mask", "decide model"),
    ("userspace/shell", ""),
    ("userspace/spool", "model"),
    ("userspace/govern", "decide mask spool model"),
    (
        "userspace/protocols/postgres",
        "decide govern mask spool model",
    ),
    ("userspace/protocols/kubernetes", "decide mask model"),
    (
        "userspace/protocols/http",
        "clock decide govern kubernetes mask model",
    ),
    ("userspace/protocols/ssh", "clock govern mask model shell"),
    ("userspace/record", "spool model clock"),
    ("userspace/state", "model clock"),
    ("userspace/console", "state model clock"),
    ("userspace/notify", "state model clock"),
    (
        "userspace/relay",
        "accept identify decide http kubernetes postgres ssh govern mask spool record state model clock",
    ),
    (
        "userspace/enforcer",
        "kernel broker accept identify discover decide mask spool govern kubernetes postgres ssh record state console notify relay model clock",
    ),
    ("userspace/store", ""),
    ("xtask", ""),
    ("tests/apiserver", ""),
    ("tests/e2e", ""),
    ("tests/kernel", "kernel broker"),
    ("bench/copyproxy", ""),
    ("bench/policy", "decide model postgres"),
    ("bench/record", "clock model postgres record spool"),
];

/// Crates that cannot forbid unsafe code, and why.
pub(super) const UNSAFE: [(&str, &str); 8] = [
    (
        "userspace/broker",
        "adopts descriptors that the kernel passed",
    ),
    ("ebpf/abi", "plain-data markers for map values"),
    ("ebpf/lineage", "eBPF"),
    ("ebpf/programs", "eBPF"),
    ("userspace/kernel", "system calls that have no safe wrapper"),
    ("tests/kernel", "system calls that recipes make by number"),
    ("userspace/store", "loads the engine's shared library"),
    (
        "userspace/protocols/postgres",
        "reads one node of the grammar that its library does not give",
    ),
];
