//! The command line: words in, words or JSON out, exit codes 0 done, 1 failed, 2 wrong usage.

mod advice;
mod check;
mod commands;
mod configure;
mod context;
mod decide;
mod demo;
mod doctor;
mod flags;
mod handbook;
mod history;
mod pair;
mod table;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use storysync_crdt::Stamp;
use storysync_engine::store::trust::Pausing;

use crate::config::{
    ConflictResolution, FirstContactSetting, LogFormat, LogLevel, PairingApproval,
};
use crate::telemetry::Logging;
pub use advice::sentence;
use context::{BrokenSettings, Context};

/// What `--version` says: the release, and the commit it is built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("STORYSYNC_COMMIT"), ")");

/// Keeps the story worlds of several devices in step: beside the app, without a cloud, losing
/// nothing.
#[derive(Debug, Parser)]
#[command(name = "storysync", version = VERSION, about, arg_required_else_help = true)]
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
    /// How lines of the log look.
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// From which level on something is worth a line of the log.
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve other devices and watch the database.
    Serve(ServeArgs),
    /// Open the page in your browser; starts a node for it where none runs.
    Open {
        /// Only print its address.
        #[arg(long)]
        no_browser: bool,
    },
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
    Log(commands::LogArgs),
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
    /// The settings: what each is and where that comes from, or another value for one.
    #[command(subcommand)]
    Config(configure::ConfigCommand),
    /// Print what lets a shell complete these commands.
    Completions {
        /// For which.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page; with a folder, write the pages of all commands into it.
    Man {
        /// Where to.
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// A desktop and a phone in a temporary folder: see it work.
    Demo,
}

#[derive(Debug, Clone, Args)]
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
    /// How long a pairing code can be used, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pairing_seconds: Option<u64>,
    /// Most rows in a page told or asked for.
    #[arg(long, value_name = "ROWS")]
    batch_size: Option<usize>,
    /// What becomes of conflicts in rows that clients without automerge push.
    #[arg(long, value_enum, value_name = "MODE")]
    conflict_resolution: Option<ConflictResolution>,
    /// Stop when stdin closes, with the app that started this.
    #[arg(long)]
    exit_with_parent: bool,
    /// Open the page in your browser.
    #[arg(long)]
    open: bool,
    /// Ask on the page before anything is done to a database that needs something.
    #[arg(long, hide = true)]
    ask_first: bool,
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
    /// Call a device something here, whatever it calls itself.
    Rename {
        /// Id, start of an id, or name.
        id: String,
        /// What it is called here; `""` for what it calls itself.
        name: String,
    },
    /// Pause a device: it stays paired, and is neither called nor answered.
    Pause {
        /// Id, start of an id, or name.
        id: String,
    },
    /// Let a paused device go on.
    Resume {
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
    match &cli.command {
        // Neither reads anything: packages are made with them.
        Command::Completions { shell } => return handbook::completions(*shell, cli.global.json),
        Command::Man { folder } => return handbook::manual(folder.as_deref(), cli.global.json),
        _ => {}
    }
    let broken = match cli.command {
        Command::Doctor | Command::Config(_) => BrokenSettings::GoOn,
        _ => BrokenSettings::Fail,
    };
    let context = Context::new(&cli.global, broken)?;
    crate::telemetry::start(Logging {
        verbose: cli.global.verbose,
        level: context.config.log_level,
        format: context.config.log_format.unwrap_or_default(),
        is_serving: matches!(cli.command, Command::Serve(_)),
    });
    match cli.command {
        Command::Serve(args) => commands::serve(&context, &args),
        Command::Open { no_browser } => commands::open(&context, !no_browser),
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
        Command::Devices { command } => devices(&context, command),
        Command::Conflicts { command: None, ended: true } => decide::ended(&context),
        Command::Conflicts { command: None, ended: false } => decide::conflicts(&context),
        Command::Conflicts { command: Some(_), ended: true } => {
            // Not as clap has it (`args_conflicts_with_subcommands`): that refuses --db there, too.
            let words = "--ended only shows what is decided already; leave it out to decide";
            Cli::command().error(clap::error::ErrorKind::ArgumentConflict, words).exit()
        }
        Command::Conflicts { command: Some(ConflictsCommand::Resolve(args)), ended: false } => {
            decide::resolve(&context, &args)
        }
        Command::History { table, uuid } => history::history(&context, &table, &uuid),
        Command::Undo(args) => history::undo(&context, &args),
        Command::Approve { id, refuse } => decide::approve(&context, &id, refuse),
        Command::Log(args) => commands::log(&context, &args),
        Command::Document { table, uuid } => commands::document(&context, &table, &uuid),
        Command::Backup => commands::backup(&context),
        Command::Uninstall { yes } => commands::uninstall(&context, yes),
        Command::Config(command) => configure::run(&context, &command),
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Demo => demo::run(&context),
    }
}

fn devices(context: &Context, command: Option<DevicesCommand>) -> anyhow::Result<()> {
    match command {
        None => commands::devices(context),
        Some(DevicesCommand::Revoke { id }) => commands::revoke(context, &id),
        Some(DevicesCommand::Keep { id }) => commands::keep(context, &id),
        Some(DevicesCommand::Rename { id, name }) => commands::rename(context, &id, &name),
        Some(DevicesCommand::Pause { id }) => commands::pause(context, &id, Pausing::Pause),
        Some(DevicesCommand::Resume { id }) => commands::pause(context, &id, Pausing::Resume),
        Some(DevicesCommand::Owner { id }) => commands::make_owner(context, &id),
    }
}
