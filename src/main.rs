//! The `storysync` binary: runs the command line, prints one sentence when it fails.

use std::process::ExitCode;

fn main() -> ExitCode {
    match storysync::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = storysync::cli::sentence(&error);
            // Nothing is left to tell when stderr is gone, too.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("storysync: {sentence}\n").as_bytes(),
            );
            ExitCode::FAILURE
        }
    }
}
