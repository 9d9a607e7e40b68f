//! Pure. Prices of tokens: from the config, or from a small dated table.

use serde::{Deserialize, Serialize};

use super::charge::Usage;

/// The date of the prices in the table below.
pub const TABLE_DATE: &str = "2025-11-30";

/// The price of a million tokens, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Input that did not come from a cache.
    pub input: u64,
    /// Input read from a cache.
    pub cached: u64,
    /// Input written to a cache.
    pub written: u64,
    /// Output, including reasoning.
    pub output: u64,
}

const fn price(input: u64, cached: u64, written: u64, output: u64) -> Price {
    Price { input, cached, written, output }
}

/// List prices of hosted models, in millionths of a US dollar per million tokens.
const TABLE: [(&str, Price); 14] = [
    ("claude-haiku-4-5", price(1_000_000, 100_000, 1_250_000, 5_000_000)),
    ("claude-opus-4-1", price(15_000_000, 1_500_000, 18_750_000, 75_000_000)),
    ("claude-opus-4-5", price(5_000_000, 500_000, 6_250_000, 25_000_000)),
    ("claude-sonnet-4-5", price(3_000_000, 300_000, 3_750_000, 15_000_000)),
    ("deepseek-chat", price(280_000, 28_000, 280_000, 420_000)),
    ("gemini-2.5-flash", price(300_000, 30_000, 300_000, 2_500_000)),
    ("gemini-2.5-flash-lite", price(100_000, 10_000, 100_000, 400_000)),
    ("gpt-4.1", price(2_000_000, 500_000, 2_000_000, 8_000_000)),
    ("gpt-4.1-mini", price(400_000, 100_000, 400_000, 1_600_000)),
    ("gpt-4o", price(2_500_000, 1_250_000, 2_500_000, 10_000_000)),
    ("gpt-4o-mini", price(150_000, 75_000, 150_000, 600_000)),
    ("gpt-5", price(1_250_000, 125_000, 1_250_000, 10_000_000)),
    ("gpt-5-mini", price(250_000, 25_000, 250_000, 2_000_000)),
    ("gpt-5-nano", price(50_000, 5_000, 50_000, 400_000)),
];

impl Price {
    /// Returns the price of a model by its name, ignoring a provider before it and a date after it. Other models have
    /// no price: a model with a similar name may cost ten times as much.
    pub fn known(model: &str) -> Option<Price> {
        let name = model.rsplit('/').next().unwrap_or(model);
        let undated = match name.rsplit_once('-') {
            Some((head, date)) if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) => head,
            _ => name,
        };
        TABLE.iter().find(|(known, _)| *known == undated).map(|(_, price)| *price)
    }

    /// The price of these tokens, in millionths of a US dollar, rounded to the nearest.
    pub fn of(&self, usage: &Usage) -> u64 {
        let parts = [
            (usage.tokens_in, self.input),
            (usage.tokens_cached, self.cached),
            (usage.tokens_written, self.written),
            (usage.tokens_out, self.output),
        ];
        let sum: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
        u64::try_from((sum + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_found_only_by_the_exact_name() {
        let sonnet = Price::known("claude-sonnet-4-5").unwrap();
        assert_eq!(Price::known("anthropic/claude-sonnet-4-5-20250929"), Some(sonnet));
        for other in ["claude-sonnet-4", "claude-sonnet-4-5-fast", "gpt-5.1", "sonnet", ""] {
            assert_eq!(Price::known(other), None, "{other}");
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let usage = Usage {
            tokens_in: 111,
            tokens_cached: 333,
            tokens_written: 44,
            tokens_out: 22,
            tokens_reasoning: 5,
            ..Usage::unknown()
        };
        // 333 + 99.9 + 165 + 330
        assert_eq!(Price::known("claude-sonnet-4-5").unwrap().of(&usage), 928);
        let most = Usage { tokens_in: u64::MAX, ..usage };
        assert_eq!(price(u64::MAX, 0, 0, 0).of(&most), u64::MAX);
    }
}
