#!/bin/sh
# RUSTC_WRAPPER of the fuzz build: only Weir's own crates are instrumented (the flags of cargo-fuzz,
# without a sanitizer: the crates that are fuzzed have no unsafe code).
case " $* " in
*" --crate-name weir_"*)
    exec "$@" --cfg fuzzing \
        -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares \
        -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    ;;
*) exec "$@" ;;
esac
