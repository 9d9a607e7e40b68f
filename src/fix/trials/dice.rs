//! Pure. Chance that is the same for the same seed on every machine: SplitMix64.

/// A source of numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers for a seed and a word, so that one part of a case can change without another.
    pub fn new(seed: u64, word: &str) -> Dice {
        let digest = blake3::hash(format!("{seed}\0{word}").as_bytes());
        let mut first = [0_u8; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        Dice(u64::from_le_bytes(first))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` on, below `high`.
    pub fn number(&mut self, low: usize, high: usize) -> usize {
        let width = high.saturating_sub(low).max(1) as u64;
        low + usize::try_from(self.next() % width).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.number(0, all.len())).copied()
    }

    /// True so often of a hundred times.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.number(0, 100) < percent
    }

    /// The same things in another order.
    pub fn shuffled<T>(&mut self, mut all: Vec<T>) -> Vec<T> {
        for at in (1..all.len()).rev() {
            all.swap(at, self.number(0, at + 1));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_word_give_the_same_numbers_and_others_do_not() {
        let of = |seed, word| {
            let mut dice = Dice::new(seed, word);
            (0..8).map(|_| dice.number(3, 90)).collect::<Vec<_>>()
        };
        assert_eq!(of(1, "a"), of(1, "a"));
        assert!(of(1, "a") != of(2, "a") && of(1, "a") != of(1, "b"));
        assert!(of(7, "x").iter().all(|number| (3..90).contains(number)));
        let mut all = Dice::new(1, "s").shuffled((0..9).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
    }
}
