//! Pure. How a file that a person may edit is replaced or removed so that no save is lost.
//!
//! # Flow
//! The new content is written under a private name beside the file. The two names are then exchanged in one step, so that
//! the private name holds what was there at that very moment. Only if that is what the decision saw, and no process has
//! it open for writing, it is removed. Else the names are exchanged back, and the person's text stays.
//!
//! # Guarantees
//! [`next_step`] looks at the two names alone, so a crash between two steps is settled by the same rule. The private
//! name tells the change that it belongs to. Content that is neither the new one nor what the decision saw is never
//! removed.

use super::world::Digest;

/// How many hexadecimal digits of a digest a private name carries.
const DIGITS: usize = 16;
/// What a private name carries in place of a digest where the file is to be removed.
const REMOVAL: &str = "removal";
/// The end of a private name. Git ignores it.
const END: &str = ".tmp";
/// The end of the private name of a file that is still being written.
const UNFINISHED_END: &str = ".part.tmp";
/// The longest name of a file, in bytes, that still has private names.
pub const MAX_NAME_BYTES: usize = 255 - 2 * DIGITS - 12;

/// A change of one file, by the digests of what it writes and what it replaces. A digest may be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// blake3 of the new content; none: the file is removed.
    pub new: Option<Digest>,
    /// blake3 of the content that the decision saw.
    pub seen: Digest,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// blake3 of the content; empty where it cannot be read.
    pub digest: Digest,
    /// True while a process has it open for writing: more may come.
    pub is_open: bool,
}

/// What to do with the two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Nothing: the private name is free.
    Finish,
    /// Remove what has the private name: it is looop's own text, or what the decision saw.
    Remove,
    /// Exchange the names: the private one has a person's text, and the file is looop's.
    Exchange,
    /// Give the private one its name back, where no file is.
    Restore,
    /// Give the private one a visible name of its own: both are a person's.
    Keep,
}

impl FileChange {
    /// The private name for this change of the file called `name`; none: the name is too long.
    pub fn private_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.name_with(name, END)
    }

    /// The name of the new content while it is being written; none: the name is too long.
    pub fn unfinished_name(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.name_with(name, UNFINISHED_END)
    }

    fn name_with(&self, name: &[u8], end: &str) -> Option<Vec<u8>> {
        let new = self.new.as_deref().map_or(REMOVAL, short);
        let end = format!(".{new}-{}{end}", short(&self.seen));
        (name.len() <= MAX_NAME_BYTES).then(|| [b".", name, end.as_bytes()].concat())
    }

    /// The file's name, where this is the name of new content that is still being written.
    pub fn parse_unfinished(private: &[u8]) -> Option<&[u8]> {
        FileChange::parse_end(private, UNFINISHED_END).map(|(name, _)| name)
    }

    /// The file's name and the change that a private name tells; none: it is another kind of name.
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

/// One of the two may be cut.
fn same(one: &str, other: &str) -> bool {
    one.len().min(other.len()) >= DIGITS && (one.starts_with(other) || other.starts_with(one))
}

/// What to do next, by what the file's name (`here`) and the private name (`aside`) lead to.
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
