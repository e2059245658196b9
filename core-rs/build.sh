#!/usr/bin/env bash
# Builds the cores for wasm32: build.sh OUT CRATE... writes OUT/CRATE.wasm.
# An installed wasm32 target is used where there is one; otherwise std is built from source with a compiler that
# has its sources beside it. Paths are remapped, so that the bytes depend on the sources and the toolchain alone.
set -euo pipefail
out=$(realpath -m "$1")
shift
cd "$(dirname "$0")"
target=wasm32-unknown-unknown

has_target() { [ -d "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/$target/lib" ]; }

extra=()
if command -v rustc >/dev/null && has_target rustc; then
  cargo=cargo RUSTC=$(command -v rustc)
elif [ -x /usr/bin/rustc ] && has_target /usr/bin/rustc; then
  cargo=/usr/bin/cargo RUSTC=/usr/bin/rustc
else
  for RUSTC in "$(command -v rustc || true)" /usr/bin/rustc; do
    [ -x "$RUSTC" ] && [ -f "$("$RUSTC" --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] && break
    RUSTC=
  done
  lld=$(command -v wasm-ld || command -v wasm-ld-19 || true)
  if [ -z "$RUSTC" ] || [ -z "$lld" ]; then
    cat >&2 <<'MSG'
core: no Rust toolchain here can build for wasm32-unknown-unknown. Install either
  rustup target add wasm32-unknown-unknown                     (anywhere)
  apt-get install rustc-web cargo-web rust-web-src lld-19      (Debian)
MSG
    exit 1
  fi
  cargo=$(dirname "$RUSTC")/cargo
  export RUSTC_BOOTSTRAP=1
  extra=(-Zbuild-std=std,panic_abort --config "target.$target.linker=\"$lld\"")
fi
export RUSTC
sysroot=$("$RUSTC" --print sysroot)
flags=(
  --remap-path-prefix="$PWD"=/core-rs
  --remap-path-prefix="${CARGO_HOME:-$HOME/.cargo}"=/cargo
  --remap-path-prefix="$sysroot"=/rust
  # A small instance: 64 KiB of stack, and two pages to begin with where the data fits them.
  -Clink-arg=-zstack-size=65536
)
export CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/wasm
mkdir -p "$out"
for crate in "$@"; do
  "$cargo" build --quiet --locked --release --target $target "${extra[@]}" -p "hypertoken-$crate"
  cp "$CARGO_TARGET_DIR/$target/release/hypertoken_$crate.wasm" "$out/$crate.wasm"
done
