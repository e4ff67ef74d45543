#!/usr/bin/env bash
# Builds, lints and tests the crates in backends/, which are no part of the workspace, with their examples, and type-checks
# burn's `cuda`.
#
#   scripts/test_backends.sh [BACKEND...]          default: every crate in backends/
#
# It takes too long for CI: candle alone compiles two hundred crates. Run it for a change to src/params, src/model or a
# backend.
set -euo pipefail
cd "$(dirname "$0")/../backends"
[ $# -gt 0 ] || set -- $(dirname -- */Cargo.toml)
for backend; do
  echo "== ${backend%/}"
  (
    cd "$backend"
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test
    # Without CUDA at hand: as for its documentation, burn then builds nothing that needs it.
    [ "${backend%/}" != burn ] || DOCS_RS=1 cargo check --features cuda
  )
done
