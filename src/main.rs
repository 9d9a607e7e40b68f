//! The command line's door: hands the arguments over and turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    looop::cli::main()
}
