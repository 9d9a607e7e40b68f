//! What git leaves alone in a folder, be it a repository or not: what its `.gitignore` files name.

use std::path::Path;

use gix::bstr::BStr;
use gix::glob::pattern::Case;
use gix::ignore::Search;
use gix::index::entry::Mode;
use gix::worktree::Stack;
use gix::worktree::stack::State;
use gix::worktree::stack::state::Ignore;
use gix::worktree::stack::state::ignore::Source;

/// Matches the paths of one folder against the ignore files in it, reading each once.
pub struct Ignored(Stack);

impl Ignored {
    /// What a human ignores in all repositories does not count: that differs between people.
    pub fn below(root: &Path) -> Ignored {
        let (source, parse) = (Source::WorktreeThenIdMappingIfNotSkipped, Default::default());
        let own = Search::from_git_dir(&root.join(".git"), None, &mut Vec::new(), parse).unwrap_or_default();
        let state = State::IgnoreStack(Ignore::new(Search::default(), own, None, source, parse));
        Ignored(Stack::new(root, state, Case::Sensitive, Vec::new(), Vec::new()))
    }

    /// True for a path, relative and with `/`, that is named itself or lies in a directory that is. Where the patterns
    /// cannot be read they name nothing.
    pub fn has(&mut self, path: &str, is_dir: bool) -> bool {
        let mode = if is_dir { Mode::DIR } else { Mode::FILE };
        let found = self.0.at_entry(BStr::new(path), Some(mode), &gix::objs::find::Never);
        found.is_ok_and(|at| at.is_excluded())
    }
}
