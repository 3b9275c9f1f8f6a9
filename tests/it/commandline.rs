//! The command line as its definition has it: which words are taken where.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory as _};
use storysync::cli::Cli;
use storysync::config::{LogFormat, LogLevel};

use crate::nodes::{BINARY, TestNode, paired};

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
    let options: [(&[&str], &str); 6] = [
        (&["--db", "/where"], "db"),
        (&["--data-dir", "/where"], "data_dir"),
        (&["--json"], "json"),
        (&["-v"], "verbose"),
        (&["--log-format", "json"], "log_format"),
        (&["--log-level", "debug"], "log_level"),
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
                    "log_format" => matches.get_one(id) == Some(&LogFormat::Json),
                    "log_level" => matches.get_one(id) == Some(&LogLevel::Debug),
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
        let mut command = std::process::Command::new(BINARY);
        command.args(&line).env("STORYSYNC_DB", "/nowhere").env("STORYSYNC_DATA_DIR", "/dev/null");
        let output = command.output().unwrap();
        let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line:?}: {sentence}");
        assert!(sentence.contains("no open conflict"), "{line:?}: {sentence}");
    }
    let both = node.run(&["conflicts", "--ended", "resolve", "0000", "--take", "mine"]);
    assert_eq!(both.status.code(), Some(2), "decided conflicts are only shown");
}

#[test]
fn the_log_is_followed_and_tells_each_thing_once() {
    let (mut desktop, phone) = paired();
    let mut following = desktop
        .command(&["log", "--follow", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel::<serde_json::Value>();
    let out = BufReader::new(following.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            drop(tell.send(serde_json::from_str(&line).unwrap()));
        }
    });
    let within = Duration::from_secs(10);
    let next = |wanted: &str| loop {
        let line = told.recv_timeout(within).unwrap();
        let is_it = line["detail"] == wanted || line["entity_type"] == wanted;
        if is_it && line["operation"] != "pair" {
            return line;
        }
    };
    // The pairing is told first, then what happens from here on.
    told.recv_timeout(within).unwrap();
    phone.app("INSERT INTO user (username, sync_uuid, version) VALUES ('new', 'new', 1)");
    phone.run_json(&["sync"]);
    assert_eq!(next("user")["sync_uuid"], "new");
    desktop.run_json(&["devices", "pause", &phone.id()]);
    assert_eq!(next("it is paused: nothing is exchanged with it")["operation"], "pause");
    let again = told.recv_timeout(Duration::from_secs(2));
    assert!(again.is_err(), "{again:?}");
    following.kill().unwrap();
    following.wait().unwrap();
    desktop.stop();
}

#[test]
fn the_version_names_the_commit_it_is_built_from() {
    let output = std::process::Command::new(BINARY).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let head = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output();
    let head = head.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let commit = head.as_deref().map_or("unknown", |head| head.get(..12).unwrap_or("unknown"));
    assert_eq!(said, format!("storysync {} ({commit})\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let folder = tempfile::TempDir::new().unwrap();
    let pages = folder.path().join("man");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(BINARY).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["man", pages.to_str().unwrap()]);
    for (words, _) in every_command() {
        let page = pages.join(format!("storysync-{}.1", words.join("-")));
        let text = std::fs::read_to_string(&page).unwrap_or_else(|_| panic!("no {page:?}"));
        assert!(text.contains(".SH NAME") && text.contains("data\\-dir"), "{page:?}");
    }
    assert!(run(&["man"]).contains(".SH SUBCOMMANDS"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        for word in ["conflicts", "resolve", "completions", "--data-dir"] {
            assert!(script.contains(word.trim_start_matches("--")), "{shell}: {word}");
        }
    }
    // What bash makes of it.
    let script = folder.path().join("storysync.bash");
    std::fs::write(&script, run(&["completions", "bash"])).unwrap();
    let ask = format!(
        "source {}; COMP_WORDS=(storysync devices re); COMP_CWORD=2; \
         _storysync storysync re devices; echo \"${{COMPREPLY[@]}}\"",
        script.display()
    );
    let answer = std::process::Command::new("bash").args(["-c", &ask]).output().unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    assert_eq!(answer.trim(), "revoke rename resume", "devices re<TAB>");
}
