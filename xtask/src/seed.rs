//! Random numbers that are the same for the same seed on every machine.

use fastrand::Rng;

/// A generator for one part of a case, so that a part can change without the others.
pub fn seeded(seed: u64, part: &str) -> Rng {
    // FNV-1a: two parts of one seed start at different places.
    Rng::with_seed(part.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The same items in another order.
pub fn shuffled<T>(rng: &mut Rng, mut all: Vec<T>) -> Vec<T> {
    rng.shuffle(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_part_give_the_same_numbers_and_others_do_not() {
        let of = |seed, part| {
            let mut rng = seeded(seed, part);
            (0..8).map(|_| rng.usize(3..90)).collect::<Vec<_>>()
        };
        assert_eq!(of(1, "a"), of(1, "a"));
        assert!(of(1, "a") != of(2, "a") && of(1, "a") != of(1, "b"));
        let mut all = shuffled(&mut seeded(1, "s"), (0..9).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
