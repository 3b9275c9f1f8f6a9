#!/usr/bin/env bash
# Checks that the node compiles for Windows, and merging for macOS, as far as a Linux machine can:
# needs rustup and apt-get (for mingw). Some five minutes; not part of tests/run.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
rustup target add x86_64-pc-windows-gnu aarch64-apple-darwin
command -v x86_64-w64-mingw32-gcc >/dev/null || apt-get install -y -q gcc-mingw-w64-x86-64
cargo check --workspace --target x86_64-pc-windows-gnu
# SQLite and zstd are C, and a compiler for macOS is not at hand.
cargo check -p storysync-crdt --target aarch64-apple-darwin
