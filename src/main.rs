//! The `outpost` binary. Everything it does is in the library.

use std::process::Termination;

fn main() -> impl Termination {
    outpost::cli::main()
}
