//! Kernel tests: real programs, namespaces and cgroups; see `tests/`. They need root and fail without it.
#![forbid(unsafe_code)]
