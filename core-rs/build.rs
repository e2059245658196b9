//! Tells the crate which compiler builds it; the module says so in a custom section.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let rustc = std::env::var("RUSTC").expect("cargo sets RUSTC");
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    println!("cargo:rustc-env=HYPERTOKEN_TOOLCHAIN={}", String::from_utf8_lossy(&version).trim());
}
