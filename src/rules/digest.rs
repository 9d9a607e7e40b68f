//! Pure. Digests of what a beat saw, by which a change is noticed.

use std::collections::BTreeMap;

/// A blake3 digest in hexadecimal.
pub type Digest = String;

/// The digest of each item of a world.
pub type Items = BTreeMap<String, Digest>;

/// Length-prefixed blake3, so that another split of the same bytes has another digest.
pub fn digest(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    record(&mut hasher, parts);
    hasher.finalize().to_hex().to_string()
}

/// Hashes parts with their lengths, so that different lists of parts never hash the same.
pub fn record(hasher: &mut blake3::Hasher, parts: &[&[u8]]) {
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

/// Returns the blake3 digest of some content.
pub fn digest_of(bytes: &[u8]) -> Digest {
    blake3::hash(bytes).to_hex().to_string()
}

/// One digest over all items, sorted by name.
pub fn digest_items(items: &Items) -> Digest {
    let parts: Vec<&[u8]> = items.iter().flat_map(|(name, d)| [name.as_bytes(), d.as_bytes()]).collect();
    digest(&parts)
}
