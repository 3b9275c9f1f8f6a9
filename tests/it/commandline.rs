//! The command line as its definition has it: which words are taken where.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory as _};
use storysync::cli::Cli;

use crate::nodes::TestNode;

/// The words of every command that does something, with what it can't do without.
fn every_command() -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::<String>::new(), Cli::command())];
    while let Some((words, command)) = waiting.pop() {
        for subcommand in command.get_subcommands() {
            let name = subcommand.get_name().to_owned();
            waiting.push(([&words[..], &[name]].concat(), subcommand.clone()));
        }
        if !words.is_empty() && !command.is_subcommand_required_set() {
            let needed = what_it_needs(&words, &command);
            found.push((words, needed));
        }
    }
    found
}

fn value_of(argument: &Arg) -> String {
    let possible = argument.get_possible_values();
    possible.first().map_or_else(|| "x".to_owned(), |value| value.get_name().to_owned())
}

/// Its positional words, and the options clap says are missing.
fn what_it_needs(words: &[String], command: &Command) -> Vec<String> {
    let mut needed: Vec<String> = command.get_positionals().map(value_of).collect();
    for _ in 0..5 {
        let Err(error) = parse(&[words, &needed].concat()) else { return needed };
        assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{words:?}: {error}");
        let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else {
            panic!("{words:?}: {error}");
        };
        for usage in missing {
            let first = usage.trim_matches(['<', '>']).split('|').next().unwrap();
            needed.push(first.split(' ').next().unwrap().to_owned());
            needed.push("x".to_owned());
        }
    }
    panic!("{words:?} is never satisfied: {needed:?}");
}

fn parse(words: &[String]) -> Result<ArgMatches, clap::Error> {
    let binary = "storysync".to_owned();
    Cli::command().try_get_matches_from([&[binary], words].concat())
}

#[test]
fn options_for_every_command_are_taken_before_and_after_every_word_of_each() {
    let options: [(&[&str], &str); 4] = [
        (&["--db", "/where"], "db"),
        (&["--data-dir", "/where"], "data_dir"),
        (&["--json"], "json"),
        (&["-v"], "verbose"),
    ];
    let commands = every_command();
    for expected in [&["conflicts", "resolve"][..], &["devices", "revoke"], &["pair", "join"]] {
        assert!(commands.iter().any(|(words, _)| words == expected), "{expected:?}");
    }
    let mut tried = 0;
    for (words, needed) in commands {
        let whole = [&words[..], &needed].concat();
        // Not between an option of the command and its value.
        for place in (0..=whole.len()).filter(|place| {
            *place == 0 || !whole.get(place - 1).is_some_and(|word| word.starts_with("--"))
        }) {
            for (option, id) in options {
                let option: Vec<String> = option.iter().map(ToString::to_string).collect();
                let line = [&whole[..place], &option, &whole[place..]].concat();
                let matches = parse(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
                let arrived = match id {
                    "json" => matches.get_flag(id),
                    "verbose" => matches.get_count(id) == 1,
                    _ => matches.get_one(id) == Some(&PathBuf::from("/where")),
                };
                assert!(arrived, "{line:?} loses {option:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn an_option_wins_over_the_environment_wherever_it_stands() {
    let node = TestNode::empty();
    let (database, data_dir) = (node.database.to_str().unwrap(), node.data_dir());
    let where_it_is = ["--db", database, "--data-dir", data_dir.to_str().unwrap()];
    let words = ["conflicts", "resolve", "0000", "--take", "mine"];
    for place in [0, 1, 2, 3, 5] {
        let line = [&words[..place], &where_it_is, &words[place..]].concat();
        let mut command = std::process::Command::new(crate::nodes::BINARY);
        command.args(&line).env("STORYSYNC_DB", "/nowhere").env("STORYSYNC_DATA_DIR", "/dev/null");
        let output = command.output().unwrap();
        let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line:?}: {sentence}");
        assert!(sentence.contains("no open conflict"), "{line:?}: {sentence}");
    }
    let both = node.run(&["conflicts", "--ended", "resolve", "0000", "--take", "mine"]);
    assert_eq!(both.status.code(), Some(2), "decided conflicts are only shown");
}
