//! Kernel to user contract.
