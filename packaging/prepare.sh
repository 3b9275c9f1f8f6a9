#!/usr/bin/env bash
# Makes what a package carries beside the binary, from the binary's own definitions: manual pages
# and completions, in target/package.
#
#     packaging/prepare.sh target/release/storysync
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$1
made=target/package
rm -rf "$made"
mkdir -p "$made/completions"
"$binary" man "$made/man"
"$binary" completions bash > "$made/completions/storysync.bash"
"$binary" completions zsh > "$made/completions/_storysync"
"$binary" completions fish > "$made/completions/storysync.fish"
