//! Pure. Replaces or removes a file that the user may edit, so that no save of the user is lost.
//!
//! # Flow
//! looop writes the new content under a private name beside the file. It then exchanges the two names in one step, so
//! that the private name refers to the content that was there at that very moment. looop removes that content only if
//! it is what the decision saw, and no process has it open for writing. Otherwise looop exchanges the names back, and
//! the user's text stays.
//!
//! # Guarantees
//! [`next_step`] depends only on the two names, so a crash between two steps is settled by the same rule. The private
//! name encodes the change that it belongs to. looop removes content only if it is the new content or what the decision
//! saw.

use crate::rules::digest::Digest;

/// How many hexadecimal digits of a digest are part of a private name.
const DIGITS: usize = 16;
/// The part of a private name that replaces the digest of new content if the file is to be removed.
const REMOVAL: &str = "removal";
/// The suffix of a private name. Git ignores it.
const END: &str = ".tmp";
/// The suffix of the private name of a file that is still being written.
const UNFINISHED_END: &str = ".part.tmp";
/// The longest file name, in bytes, for which private names still fit.
pub const MAX_NAME_BYTES: usize = 255 - 2 * DIGITS - 12;

/// A change of one file, by the digests of what it writes and what it replaces. A digest may be truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// blake3 of the new content; `None`: the file is removed.
    pub new: Option<Digest>,
    /// blake3 of the content that the decision saw.
    pub seen: Digest,
}

/// The file under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// blake3 of the content; empty if it cannot be read.
    pub digest: Digest,
    /// True while a process has it open for writing, so that the content may still change.
    pub is_open: bool,
}

/// What to do with the two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing: the private name is free.
    Finish,
    /// Remove the file with the private name: it is looop's own text, or what the decision saw.
    Remove,
    /// Exchange the names: the user's text has the private name, and looop's text has the file's name.
    Exchange,
    /// Rename the private file back, because the file's name is free.
    Restore,
    /// Rename the private file to a visible name: both files are the user's.
    Keep,
}

impl FileChange {
    /// Returns the private name for this change of the file `name`; `None` if the name is too long.
    pub fn private_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.name_with(name, END)
    }

    /// Returns the name of the new content while it is being written; `None` if the file's name is too long.
    pub fn unfinished_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.name_with(name, UNFINISHED_END)
    }

    fn name_with(&self, name: &[u8], end: &str) -> Option<Vec<u8>> {
        let new = self.new.as_deref().map_or(REMOVAL, short);
        let end = format!(".{new}-{}{end}", short(&self.seen));
        (name.len() <= MAX_NAME_BYTES).then(|| [b".", name, end.as_bytes()].concat())
    }

    /// Returns the file's name if `private` is the name of new content that is still being written.
    pub fn parse_unfinished(private: &[u8]) -> Option<&[u8]> {
        FileChange::parse_end(private, UNFINISHED_END).map(|(name, _)| name)
    }

    /// Parses a private name into the file's name and the change; `None` for other names.
    pub fn parse(private: &[u8]) -> Option<(&[u8], FileChange)> {
        FileChange::parse_end(private, END)
    }

    fn parse_end<'a>(private: &'a [u8], end: &str) -> Option<(&'a [u8], FileChange)> {
        let rest = private.strip_prefix(b".")?.strip_suffix(end.as_bytes())?;
        let at = rest.iter().rposition(|byte| *byte == b'.')?;
        let (new, seen) = str::from_utf8(&rest[at + 1..]).ok()?.split_once('-')?;
        let is_digest = |text: &str| text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        let known = is_digest(seen) && (is_digest(new) || new == REMOVAL) && at > 0;
        let new = (new != REMOVAL).then(|| new.to_owned());
        known.then(|| (&rest[..at], FileChange { new, seen: seen.to_owned() }))
    }

    fn is_new(&self, content: &FileContent) -> bool {
        !content.is_open && self.new.as_ref().is_some_and(|new| same(&content.digest, new))
    }

    fn is_seen(&self, content: &FileContent) -> bool {
        !content.is_open && same(&content.digest, &self.seen)
    }
}

fn short(digest: &str) -> &str {
    digest.get(..DIGITS).unwrap_or(digest)
}

/// Compares two digests, of which one may be truncated.
fn same(one: &str, other: &str) -> bool {
    one.len().min(other.len()) >= DIGITS && (one.starts_with(other) || other.starts_with(one))
}

/// Decides the next step by the files under the file's name (`here`) and the private name (`aside`).
pub fn next_step(change: &FileChange, here: Option<&FileContent>, aside: Option<&FileContent>) -> NextStep {
    let Some(aside) = aside else { return NextStep::Finish };
    let is_replaced = change.new.is_none() || here.is_some();
    match here {
        _ if change.is_new(aside) => NextStep::Remove,
        _ if change.is_seen(aside) && is_replaced => NextStep::Remove,
        None => NextStep::Restore,
        Some(here) if change.is_new(here) => NextStep::Exchange,
        Some(_) => NextStep::Keep,
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
