#!/usr/bin/env bash
# Runs the fuzzers for a given time: seeded scripts of the three models on all cores, then every target under
# libFuzzer (cargo-fuzz, without sanitizer: works on a stable compiler). Prints executions and findings.
#
#   fuzz/run.sh SECONDS [TARGET...]        SECONDS each; `seeds` as a target plays the seeded scripts
set -uo pipefail
cd "$(dirname "$0")"
SECONDS_EACH=${1:?usage: fuzz/run.sh SECONDS [TARGET...]}
shift
TARGETS=("$@")
[ ${#TARGETS[@]} -gt 0 ] || TARGETS=(seeds change_set qr_text sealed_body register_body prose_merge desk convergence convergence_sqlite)
FAILED=0
for target in "${TARGETS[@]}"; do
    if [ "$target" = seeds ]; then
        for model in desk convergence convergence_sqlite; do
            cargo run --release --quiet --bin seeds -- "$model" "$SECONDS_EACH" "$(( $(date +%s) * 1000000 ))" || FAILED=1
        done
        continue
    fi
    command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --quiet || exit 1
    log=$(mktemp)
    mkdir -p "target/corpus/$target"
    cargo fuzz run --fuzz-dir . --features libfuzzer --sanitizer none "$target" "target/corpus/$target" "corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -print_final_stats=1 >"$log" 2>&1 || { FAILED=1; tail -40 "$log"; }
    printf '%s: %s executions, %s findings\n' "$target" "$(grep -o 'stat::number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*$' || echo 0)" "$(grep -c 'SUMMARY: libFuzzer' "$log")"
    rm -f "$log"
done
exit $FAILED
