//! The command line: words in, words or JSON out, exit codes 0 done, 1 failed, 2 wrong usage.

mod advice;
mod check;
mod commands;
mod context;
mod decide;
mod demo;
mod doctor;
mod history;
mod pair;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use storysync_crdt::Stamp;

use crate::config::{FirstContactSetting, PairingApproval};
pub use advice::sentence;

/// Keeps the story worlds of several devices in step: beside the app, without a cloud, losing
/// nothing.
#[derive(Debug, Parser)]
#[command(name = "storysync", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
struct Global {
    /// The app's database (default: Storymaster's own).
    #[arg(long, global = true, env = "STORYSYNC_DB", value_name = "PATH")]
    db: Option<PathBuf>,
    /// Where keys, the list of paired devices, settings and backups are kept.
    #[arg(long, global = true, env = "STORYSYNC_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON document and nothing else on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// More words on stderr; twice for all of them.
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve other devices and watch the database.
    Serve(ServeArgs),
    /// Create a new, empty Storymaster database.
    Init,
    /// Prepare a database: backup, sync fields, triggers, verification. Safe to run again.
    Migrate {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Pair with another device.
    #[command(subcommand)]
    Pair(PairCommand),
    /// Exchange with each paired device, or one, now.
    Sync {
        /// Id, start of an id, or name.
        device: Option<String>,
        /// What this database and another it meets for the first time are to each other.
        #[arg(long, value_enum)]
        first_contact: Option<FirstContactSetting>,
    },
    /// Check this database; with a device, compare what the two show and name what differs.
    Verify {
        /// Id, start of an id, or name.
        device: Option<String>,
    },
    /// Say why syncing doesn't work, and what to do.
    Doctor,
    /// How this node stands.
    Status,
    /// The paired devices.
    Devices {
        #[command(subcommand)]
        command: Option<DevicesCommand>,
    },
    /// Conflicts that wait for a decision.
    #[command(args_conflicts_with_subcommands = true)]
    Conflicts {
        /// Those that are over instead, and how they ended.
        #[arg(long)]
        ended: bool,
        #[command(subcommand)]
        command: Option<ConflictsCommand>,
    },
    /// Who wrote what in a row, and when.
    History {
        /// Its table.
        table: String,
        /// Its `sync_uuid`, or what it is called.
        uuid: String,
    },
    /// Take back a change of a row, or all that a device wrote since a time.
    Undo(UndoArgs),
    /// Let a device's mass deletion through, which waits for a yes.
    Approve {
        /// What `storysync status` lists.
        id: String,
        /// Say no instead: the rows live, on all devices.
        #[arg(long)]
        refuse: bool,
    },
    /// What other devices changed here.
    Log {
        /// Of one row only: its `sync_uuid`, or what it is called.
        #[arg(long, value_name = "ROW")]
        row: Option<String>,
    },
    /// A row's automerge document, on stdout.
    Document {
        /// Its table.
        table: String,
        /// Its `sync_uuid`, or what it is called.
        uuid: String,
    },
    /// Copy the database into the folder of backups, while the app goes on writing, and check the
    /// copy.
    Backup,
    /// Take storysync's triggers and tables out of the database again; every row stays as it is
    /// shown.
    Uninstall {
        /// Do it; without, it is only said what would be lost.
        #[arg(long)]
        yes: bool,
    },
    /// A desktop and a phone in a temporary folder: see it work.
    Demo,
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Address to serve other devices on.
    #[arg(long)]
    host: Option<IpAddr>,
    /// Port to serve other devices on.
    #[arg(long)]
    port: Option<u16>,
    /// Port on this machine for pairing codes and administration.
    #[arg(long)]
    admin_port: Option<u16>,
    /// What this device is called.
    #[arg(long)]
    name: Option<String>,
    /// Neither look for devices nor be found.
    #[arg(long)]
    no_discovery: bool,
    /// Only answer other devices, and call none.
    #[arg(long)]
    no_live: bool,
    /// Whether pairing wants a code typed here.
    #[arg(long, value_enum)]
    pairing_approval: Option<PairingApproval>,
    /// Stop when stdin closes, with the app that started this.
    #[arg(long)]
    exit_with_parent: bool,
}

#[derive(Debug, Subcommand)]
enum PairCommand {
    /// Show a pairing code (needs `storysync serve` running here).
    Show {
        /// What this device is called from now on.
        #[arg(long)]
        name: Option<String>,
    },
    /// Scan the pairing code another device shows.
    Join {
        /// The text of the code; `-` reads it from standard input.
        #[arg(required_unless_present = "image", conflicts_with = "image", value_name = "QR TEXT")]
        text: Option<String>,
        /// A picture of the code.
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// What this device is called from now on.
        #[arg(long)]
        name: Option<String>,
    },
    /// Let the device in that shows this code.
    Confirm {
        /// Four digits.
        code: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConflictsCommand {
    /// Decide a conflict, or all of them.
    Resolve(ResolveArgs),
}

#[derive(Debug, Args)]
struct ResolveArgs {
    /// The conflict, as `storysync conflicts` names it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// mine, theirs, a device (id, start of an id, or name), keep, delete or rename.
    #[arg(long, required_unless_present_any = ["field", "all"])]
    take: Option<String>,
    /// NAME=VALUE; the value is JSON, or text when it is not.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    field: Vec<(String, String)>,
    /// Decide every open conflict: mine or theirs.
    #[arg(long, value_parser = ["mine", "theirs"], conflicts_with_all = ["take", "field"])]
    all: Option<String>,
}

#[derive(Debug, Args)]
struct UndoArgs {
    /// The row's table.
    #[arg(required_unless_present = "device", conflicts_with = "device", requires = "uuid")]
    table: Option<String>,
    /// The row's `sync_uuid`, or what it is called.
    uuid: Option<String>,
    /// The change, as `storysync history` names it (or the start of it); the newest without.
    #[arg(long, value_name = "HASH", conflicts_with = "device")]
    change: Option<String>,
    /// Everything this device wrote or brought: id, start of an id, or name; `this` for this one.
    #[arg(long, value_name = "ID", requires = "since")]
    device: Option<String>,
    /// What came at this time or later, whatever time it claims: 2026-01-31T12:00:00Z, or without
    /// a zone in UTC.
    #[arg(long, value_name = "TIME", requires = "device", conflicts_with = "table",
        value_parser = time)]
    since: Option<Stamp>,
    /// Only what names the device as its author, not what it brought of others.
    #[arg(long, requires = "device")]
    only_written: bool,
    /// Also what it had when the two first met, whatever time that claims.
    #[arg(long, requires = "device")]
    first_contact: bool,
    /// Do it; without, it is only shown what would be done.
    #[arg(long, requires = "device", conflicts_with = "table")]
    yes: bool,
}

#[derive(Debug, Subcommand)]
enum DevicesCommand {
    /// Take a device's keys away.
    Revoke {
        /// Id, start of an id, or name.
        id: String,
    },
    /// Say that a device stays that another says was lost.
    Keep {
        /// Id, start of an id, or name.
        id: String,
    },
    /// Make a device an owner: whom it says was lost is sent away here, too, without a question.
    Owner {
        /// Id, start of an id, or name; `this` for this one.
        id: String,
    },
}

fn name_and_value(pair: &str) -> Result<(String, String), String> {
    let (name, value) = pair.split_once('=').ok_or_else(|| "it is not NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

fn time(text: &str) -> Result<Stamp, String> {
    Stamp::parse(text).ok_or_else(|| "it is no time; write it like 2026-01-31T12:00:00Z".to_owned())
}

/// Runs the command line of this process.
///
/// # Errors
/// With a sentence that says what to do.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    crate::telemetry::start(cli.global.verbose, matches!(cli.command, Command::Serve(_)));
    let context = context::Context::new(&cli.global)?;
    match cli.command {
        Command::Serve(args) => commands::serve(&context, &args),
        Command::Init => commands::init(&context),
        Command::Migrate { dry_run } => commands::migrate(&context, dry_run),
        Command::Pair(PairCommand::Show { name }) => pair::show(&context, name.as_deref()),
        Command::Pair(PairCommand::Join { text, image, name }) => {
            pair::join(&context, text, image, name.as_deref())
        }
        Command::Pair(PairCommand::Confirm { code }) => pair::confirm(&context, &code),
        Command::Sync { device, first_contact } => {
            commands::sync(&context, device.as_deref(), first_contact)
        }
        Command::Verify { device } => check::verify(&context, device.as_deref()),
        Command::Doctor => doctor::run(&context),
        Command::Status => commands::status(&context),
        Command::Devices { command: None } => commands::devices(&context),
        Command::Devices { command: Some(DevicesCommand::Revoke { id }) } => {
            commands::revoke(&context, &id)
        }
        Command::Devices { command: Some(DevicesCommand::Keep { id }) } => {
            commands::keep(&context, &id)
        }
        Command::Devices { command: Some(DevicesCommand::Owner { id }) } => {
            commands::make_owner(&context, &id)
        }
        Command::Conflicts { command: None, ended: true } => decide::ended(&context),
        Command::Conflicts { command: None, ended: false } => decide::conflicts(&context),
        Command::Conflicts { command: Some(ConflictsCommand::Resolve(args)), .. } => {
            decide::resolve(&context, &args)
        }
        Command::History { table, uuid } => history::history(&context, &table, &uuid),
        Command::Undo(args) => history::undo(&context, &args),
        Command::Approve { id, refuse } => decide::approve(&context, &id, refuse),
        Command::Log { row } => commands::log(&context, row.as_deref()),
        Command::Document { table, uuid } => commands::document(&context, &table, &uuid),
        Command::Backup => commands::backup(&context),
        Command::Uninstall { yes } => commands::uninstall(&context, yes),
        Command::Demo => demo::run(&context),
    }
}
