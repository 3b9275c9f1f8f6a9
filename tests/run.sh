#!/usr/bin/env bash
# The one command that checks everything. Installs what a fresh machine with Rust lacks, through the
# ordinary package managers; then format, lints, tests, docs, dependencies, features, fuzz corpora.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n==> %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
need_package() { # command, package
    have "$1" && return
    have apt-get || { echo "please install $2 (for the command $1)"; exit 1; }
    [ -n "${UPDATED:-}" ] || { as_root apt-get update -q; UPDATED=1; }
    as_root apt-get install -y -q "$2"
}

step "what the tests need"
need_package cc build-essential
need_package python3 python3
python3 -c "import ensurepip" 2>/dev/null || { [ -n "${UPDATED:-}" ] || { as_root apt-get update -q; UPDATED=1; }; as_root apt-get install -y -q python3-venv; }
need_package ip iproute2
need_package node nodejs
need_package npm npm
rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt
(cd tests/js && npm ci --no-audit --no-fund --silent)
(cd tests/page && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --silent)
need_package chromium chromium
have cargo-deny || cargo install cargo-deny --locked --debug --quiet

step "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check

step "lints"
cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

step "the shape of the tree"
cargo build -p storysync-engine --quiet
python3 tests/house.py

step "tests"
if have cargo-nextest; then
    cargo nextest run --workspace --no-fail-fast
    cargo test --workspace --doc --quiet
else
    cargo test --workspace --no-fail-fast
fi

step "papers, and the README's main job"
cargo build --quiet --bin storysync
python3 tests/papers.py target/debug/storysync
python3 tests/snippets.py target/debug/storysync
target/debug/storysync demo > /dev/null

step "the loopback listener, held against its OpenAPI document"
bash tests/openapi.sh target/debug/storysync

step "examples"
cargo run --quiet --example embed_engine
cargo run --quiet --example two_nodes

step "the page in a browser"
STORYSYNC=target/debug/storysync node tests/page/story.mjs
panel=$(mktemp -d)
target/debug/storysync init --db "$panel/story.db" --data-dir "$panel/data" > /dev/null
python3 examples/panel.py target/debug/storysync "$panel/story.db" "$panel/data" --once
rm -rf "$panel"

step "the app's pages at two desks"
[ -x target/app_model/bin/python ] || python3 -m venv target/app_model
target/app_model/bin/pip install --quiet --disable-pip-version-check -r tests/app_model/requirements.txt
cargo build --quiet --bin storysync
target/app_model/bin/python tests/app_model/run.py --binary target/debug/storysync --scripts 25 --twice

step "what the primitives and the vectors were held against"
cargo test --quiet --test it -- primitives:: vectors:: --nocapture | grep -E ": |opened|refused" || true

step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet

step "dependencies"
# All of the lock file, also what only other systems need: the check itself asks nobody.
cargo fetch --locked --quiet
cargo deny --offline --log-level error check bans licenses sources

step "every feature set"
# The crates have no features besides the default set, which the tests built.
cargo check --workspace --no-default-features --quiet

step "fuzz corpora"
CARGO_TARGET_DIR=target cargo test --manifest-path fuzz/Cargo.toml --test replay --quiet -- --nocapture

step "all checks passed"
