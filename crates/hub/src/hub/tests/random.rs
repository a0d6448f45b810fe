//! Seeds and what is drawn from them.
//!
//! A failing run prints its seed; `TRESTLE_SEED=… cargo test -p trestle-hub simulation` runs that one alone.

/// splitmix64: small, and the same everywhere.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % end
    }

    /// A topic of few and few distinct bytes, so that they share prefixes.
    pub(super) fn topic(&mut self) -> Vec<u8> {
        (0..self.below(4)).map(|_| b"ab"[self.below(2)]).collect()
    }
}

/// Whether one seed alone is run, so that its steps are worth telling.
pub(super) fn is_one_seed() -> bool {
    std::env::var_os("TRESTLE_SEED").is_some()
}

/// Runs `run` for many seeds; one that fails is named.
pub(super) fn for_seeds(n: u64, run: impl Fn(u64)) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("TRESTLE_SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("TRESTLE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..n, |seed| seed..seed + 1);
    for seed in seeds {
        let named = Named(seed);
        run(seed);
        drop(named);
    }
}
