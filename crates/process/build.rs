//! Links libsodium, which the workspace's libzmq uses for CURVE, and refuses a build whose libzmq would lack features.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `.cargo/config.toml` tells libzmq's own build to have.
const NEEDED: [&str; 3] = ["-DZMQ_HAVE_CURVE", "-DZMQ_HAVE_SO_KEEPALIVE", "-DZMQ_HAVE_EVENTFD"];

fn main() {
    println!("cargo:rerun-if-env-changed=CXXFLAGS");
    let flags = env::var("CXXFLAGS").unwrap_or_default();
    if let Some(missing) = NEEDED.iter().find(|flag| !flags.contains(**flag)) {
        panic!("CXXFLAGS lacks {missing}: build inside the workspace, whose .cargo/config.toml sets it");
    }
    match static_sodium() {
        Some(folder) => {
            println!("cargo:rustc-link-search=native={}", folder.display());
            // The whole archive: a linker that reads left to right sees it before libzmq asks for it.
            println!("cargo:rustc-link-lib=static:+whole-archive=sodium");
        }
        None => println!("cargo:rustc-link-lib=sodium"),
    }
}

/// The folder of `libsodium.a`, where the C compiler finds one: then the binaries need no package at run time.
fn static_sodium() -> Option<PathBuf> {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let output = Command::new(compiler).arg("-print-file-name=libsodium.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_absolute().then(|| path.parent().map(Path::to_path_buf)).flatten()
}
