//! Embeds the page anew when a file of `web` comes or goes; the compiler itself sees only those that change.

use std::path::Path;

fn main() -> std::io::Result<()> {
    for entry in Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web").read_dir()? {
        let entry = entry?;
        // Thousands of files, none of which is served.
        if entry.file_name() != "node_modules" {
            println!("cargo:rerun-if-changed={}", entry.path().display());
        }
    }
    Ok(())
}
