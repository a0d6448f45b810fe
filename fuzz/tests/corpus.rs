//! Replays the committed corpora: every file of `corpus/TARGET` through its target, whole and cut short anywhere.

use std::fs;
use std::path::Path;

#[test]
fn every_committed_input_holds() {
    for (name, body) in trestle_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut n_inputs = 0;
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            println!("{}", path.display());
            (0..=bytes.len()).for_each(|n| body(&bytes[..n]));
            n_inputs += 1;
        }
        assert!(n_inputs > 0, "{name} has a corpus");
    }
}
