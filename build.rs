//! Tells the binary which commit it is built from: `STORYSYNC_COMMIT` where a packager says so,
//! else git's word, else "unknown". Looked at again only when there is another commit.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Digits of a commit's hash that are shown.
const COMMIT_DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=STORYSYNC_COMMIT");
    let told = std::env::var("STORYSYNC_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = told.or_else(commit_of_git).unwrap_or_else(|| "unknown".to_owned());
    let shown: String = commit.chars().take(COMMIT_DIGITS).collect();
    println!("cargo::rustc-env=STORYSYNC_COMMIT={shown}");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit_of_git() -> Option<String> {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    // A copy of the sources inside another project's repository is not that project's commit.
    let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if root != here {
        return None;
    }
    // Both change with a commit or a checkout; a file that is not there would count as changed
    // each time.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}
