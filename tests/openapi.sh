#!/usr/bin/env bash
# Holds a real node against its own OpenAPI document: schemathesis asks the loopback listener what
# the document allows, and what it does not. Usage: tests/openapi.sh [BINARY]. At most a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/debug/storysync}")
tools=target/schemathesis

[ -x "$tools/bin/st" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check -r tests/openapi/requirements.txt

folder=$(mktemp -d)
node=""
stop() {
    [ -z "$node" ] || { kill "$node" && wait "$node" || true; }
    rm -rf "$folder"
}
trap stop EXIT

as_node() { "$binary" --db "$folder/app.db" --data-dir "$folder/data" "$@"; }
as_node init > /dev/null
as_node serve --host 127.0.0.1 --port 0 --admin-port 0 --no-discovery --no-live \
    > "$folder/ready" 2> "$folder/log" &
node=$!
for _ in $(seq 100); do
    grep -q READY "$folder/ready" && break
    kill -0 "$node" || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
grep -q READY "$folder/ready"

told() { python3 -c "import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])" "$@"; }
url=$(told "$folder/data/admin.json" url)
STORYSYNC_TOKEN=$(told "$folder/data/admin.json" token)
export STORYSYNC_TOKEN

# A row whose history there is, under the names `tests/openapi/schemathesis.toml` asks for.
python3 tests/openapi/row.py "$folder/app.db"
python3 tests/openapi/stream.py "$url" "$STORYSYNC_TOKEN"

# From the folder that is removed: what failed before would be asked again, and change the run.
(here=$PWD && cd "$folder" && timeout 90 "$here/$tools/bin/st" \
    --config-file "$here/tests/openapi/schemathesis.toml" \
    run "$url/openapi.json" --seed 18 --max-time 50 --max-examples 40)

# The second document is valid, too; what it describes needs a paired device.
"$tools/bin/python" tests/openapi/valid.py "$url/openapi.json" "$url/openapi/lan.json"
if grep -E "panicked|ERROR" "$folder/log"; then exit 1; fi
