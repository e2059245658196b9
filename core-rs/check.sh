#!/usr/bin/env bash
# Proves that the committed cores are what the sources give. A core made by another toolchain than the one here can't be
# compared byte for byte: the check says so, and passes.
set -euo pipefail
cd "$(dirname "$0")"
out=target/cores
./build.sh $out builtin testcore example

toolchain() { grep -a -o -m1 'rustc [0-9][0-9.]* ([^)]*)[^)]*)\?' "$1" | head -n 1; }

status=0
check() {
  local built=$out/$1.wasm committed=../$2
  if cmp -s "$built" "$committed"; then
    echo "core-check: $2 is what the sources give ($(toolchain "$built"))"
  elif [ "$(toolchain "$built")" != "$(toolchain "$committed")" ]; then
    echo "core-check: $2 was made by $(toolchain "$committed"), here is $(toolchain "$built"): not compared"
  else
    echo "core-check: $2 is not what the sources give; run 'make core' and commit it" >&2
    status=1
  fi
}
check builtin wasm/core.wasm
check testcore internal/cores/testcore.wasm
check example internal/cores/example.wasm
exit $status
