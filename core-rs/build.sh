#!/usr/bin/env bash
# Builds cores for wasm32:
#   build.sh OUT CRATE...           members of this workspace, as OUT/CRATE.wasm
#   build.sh --crate DIR OUT.wasm   a crate anywhere: what `hypertoken core build` runs
# An installed wasm32 target is used where there is one; otherwise std is built from source with a compiler that
# has its sources beside it. Paths are remapped, so that the bytes depend on the sources and the toolchain alone.
set -euo pipefail
target=wasm32-unknown-unknown

absolute() { case $1 in /* | ?:*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

if [ "$1" = --crate ]; then
  out=$(absolute "$3")
  cd "$2"
else
  out=$(absolute "$1")
  shift
  cd "$(dirname "${BASH_SOURCE[0]}")"
fi

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

sources=$PWD
if [ "$1" = --crate ]; then
  # Cargo completes the lock file, and says where hypertoken-core is: beside the crate, or in cargo's own directory.
  "$cargo" metadata --quiet --format-version 1 >/dev/null
  id=$("$cargo" pkgid hypertoken-core) || { echo "core: the crate in $PWD does not depend on hypertoken-core" >&2; exit 1; }
  case $id in
    path+file://*) id=${id#path+file://} && sources=${id%%#*} ;;
    *) sources=${CARGO_HOME:-$HOME/.cargo} ;;
  esac
fi
flags=(
  --remap-path-prefix="$sources"=/core-rs
  --remap-path-prefix="${CARGO_HOME:-$HOME/.cargo}"=/cargo
  --remap-path-prefix="$sysroot"=/rust
  # A small instance: 64 KiB of stack, and two pages to begin with where the data fits them.
  -Clink-arg=-zstack-size=65536
)
export CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}")
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/wasm

if [ "$1" = --crate ]; then
  # Cargo shows its progress. What it says in JSON names the module. Only the module is made, of whatever other types the crate
  # is, so that std is built as for the built-in core, and once for all crates that share a target directory.
  built=$("$cargo" rustc --release --lib --crate-type cdylib --target $target ${extra[@]+"${extra[@]}"} \
    --message-format=json-render-diagnostics)
  module=$(grep -o '"[^"]*\.wasm"' <<<"$built" | tail -n 1 | tr -d '"') || { echo "core: cargo names no module that it built" >&2; exit 1; }
  mkdir -p "$(dirname "$out")"
  cp "$module" "$out"
  exit
fi
mkdir -p "$out"
for crate in "$@"; do
  "$cargo" build --quiet --locked --release --target $target ${extra[@]+"${extra[@]}"} -p "hypertoken-$crate"
  cp "$CARGO_TARGET_DIR/$target/release/hypertoken_$crate.wasm" "$out/$crate.wasm"
done
