//! Passes the compiler's version to the crate, which puts it into a custom section of the module.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC");
    let rustc = std::env::var("RUSTC").expect("cargo sets RUSTC");
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    println!("cargo:rustc-env=HYPERTOKEN_TOOLCHAIN={}", String::from_utf8_lossy(&version).trim());
}
