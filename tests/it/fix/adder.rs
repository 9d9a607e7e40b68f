//! The project that most tests of a fix share: a shell function that subtracts where it should add, and its check.

use super::fixture::Fixture;

pub const LIB: &str = "add() { echo $(($1 - $2)); }\n";
pub const CHECK: &str = ". ./lib.sh\nr=$(add 2 3)\n[ \"$r\" = 5 ] || { echo \"FAIL: add: expected 5, got $r\"; exit 1; }\necho fine\n";
/// The `[tests]` of its leanfile.
pub const TESTS: &str = "command = \"sh\"\nargs = [\"check.sh\"]";
/// A command that mends it.
pub const FIXED: &str = "sed -i 's/\\$1 - \\$2/$1 + $2/' lib.sh";

/// The project with a leanfile of these tasks.
pub fn fixture(tasks: &str) -> Fixture {
    let fixture = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    fixture.leanfile(TESTS, tasks);
    fixture
}
