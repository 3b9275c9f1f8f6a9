//! What is made from the definition of the command line for other programs: completions of shells,
//! manual pages.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use super::context::print_raw;

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell, as_json: bool) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "storysync", &mut script);
    if as_json {
        let script = String::from_utf8_lossy(&script);
        script_json(&json!({ "shell": shell.to_string(), "script": script }))
    } else {
        print_raw(&script)
    }
}

/// Prints the manual page, or writes it and those of all commands into a folder.
pub(super) fn manual(folder: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return if as_json {
            script_json(&json!({ "page": String::from_utf8_lossy(&page) }))
        } else {
            print_raw(&page)
        };
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .with_context(|| format!("the pages can't be written to {}", folder.display()))?;
    if as_json { script_json(&json!({ "folder": folder })) } else { Ok(()) }
}

fn script_json(json: &serde_json::Value) -> anyhow::Result<()> {
    print_raw(format!("{json}\n").as_bytes())
}
