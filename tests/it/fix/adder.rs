//! The project that most tests of a fix share: a shell function that subtracts where it should add, and its check.

use super::fixture::Fixture;

pub const LIB: &str = "add() { echo $(($1 - $2)); }\n";
pub const CHECK: &str = ". ./lib.sh\nr=$(add 2 3)\n[ \"$r\" = 5 ] || { echo \"FAIL: add: expected 5, got $r\"; exit 1; }\necho fine\n";
/// The `[tests]` of its leanfile.
pub const TESTS: &str = "command = \"sh\"\nargs = [\"check.sh\"]";
/// Its task, whose goal is `add`.
pub const TASK: &str =
    "[[tasks]]\nname = \"add\"\nprompt = \"add must ADD-ITS-TWO-ARGUMENTS\"\nfiles = [\"lib.sh\"]\n";
/// The function as it should be, and a command that mends it.
pub const FIXED_LIB: &str = "add() { echo $(($1 + $2)); }\n";
pub const FIXED: &str = "sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh";

/// The project with these files besides, without a leanfile.
pub fn project(more: &[(&str, &str)]) -> Fixture {
    Fixture::new(&[&[("lib.sh", LIB), ("check.sh", CHECK)], more].concat())
}

/// The project with a leanfile of these tasks.
pub fn fixture(tasks: &str) -> Fixture {
    let fixture = project(&[]);
    fixture.leanfile(TESTS, tasks);
    fixture
}
