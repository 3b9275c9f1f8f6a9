#!/usr/bin/env bash
# Builds each package, installs it somewhere, and runs what was installed: the Debian package
# unpacked into a folder, the wheel in an environment of its own.
#
#     bash tests/packages.sh            # of the debug build, as it is
#     bash tests/packages.sh release    # of the release build
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-debug}" in
    debug) profile=dev folder=debug speed=--fast ;;
    release) profile=release folder=release speed= ;;
    *) echo "debug or release"; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '\n==> %s\n' "$*"; }
fail() { echo "packages: $*"; exit 1; }

# Runs an installed binary: it is this commit's, makes a database, and has two nodes agree.
run_installed() {
    local binary=$1 said
    said=$("$binary" --version)
    [ "$said" = "$version" ] || fail "$binary says $said, and not $version"
    "$binary" --db "$work/$2.db" --data-dir "$work/data-$2" init > /dev/null
    "$binary" --db "$work/$2.db" --data-dir "$work/data-$2" status | grep -q "conflicts" ||
        fail "$binary tells no status"
    "$binary" demo > "$work/$2.demo" || { cat "$work/$2.demo"; fail "$binary runs no demo"; }
}

step "the binary, its pages and completions"
cargo build --quiet --profile "$profile" --bin storysync
version=$("target/$folder/storysync" --version)
packaging/prepare.sh "target/$folder/storysync"

step "the Debian package"
command -v cargo-deb > /dev/null || cargo install cargo-deb --locked --debug --quiet
cargo deb --quiet --no-build --no-strip --profile "$profile" --output "$work/storysync.deb" \
    $speed > /dev/null
dpkg-deb --field "$work/storysync.deb" Package Version Architecture Depends
dpkg-deb --extract "$work/storysync.deb" "$work/root"
run_installed "$work/root/usr/bin/storysync" deb
for path in \
    usr/share/man/man1/storysync.1.gz \
    usr/share/man/man1/storysync-conflicts-resolve.1.gz \
    usr/share/bash-completion/completions/storysync \
    usr/share/zsh/vendor-completions/_storysync \
    usr/share/fish/vendor_completions.d/storysync.fish \
    usr/lib/systemd/user/storysync.service \
    usr/share/doc/storysync/copyright; do
    [ -s "$work/root/$path" ] || fail "the Debian package lacks $path"
done
if command -v systemd-analyze > /dev/null; then
    sed "s|/usr/bin/storysync|$work/root/usr/bin/storysync|" \
        "$work/root/usr/lib/systemd/user/storysync.service" > "$work/storysync.service"
    XDG_RUNTIME_DIR="$work" systemd-analyze verify --user --man=no "$work/storysync.service"
fi

step "the wheel"
tools=target/packages_tools
[ -x "$tools/bin/maturin" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.7,<2'
"$tools/bin/maturin" build --quiet --profile "$profile" --compatibility linux --out "$work/wheel"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-index "$work"/wheel/*.whl
run_installed "$work/venv/bin/storysync" wheel

printf '\nBoth packages are built, installed and run: %s\n' "$version"
