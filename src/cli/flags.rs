//! What flags say about settings: the same words as in `config.toml`.

use serde::Serialize;
use toml::Value;

use super::{Global, ServeArgs};

/// Settings a flag speaks about, with their values.
pub(super) type Flags = Vec<(&'static str, Value)>;

fn say(flags: &mut Flags, key: &'static str, given: Option<impl Serialize>) {
    // Numbers, words and addresses: each has a form in TOML.
    if let Some(value) = given.and_then(|given| Value::try_from(given).ok()) {
        flags.push((key, value));
    }
}

/// What options every command takes say.
pub(super) fn of_all(global: &Global) -> Flags {
    let mut flags = Flags::new();
    say(&mut flags, "log_format", global.log_format);
    say(&mut flags, "log_level", global.log_level);
    flags
}

/// What the options of `serve` say.
pub(super) fn of_serve(args: &ServeArgs) -> Flags {
    let mut flags = Flags::new();
    say(&mut flags, "name", args.name.as_deref());
    say(&mut flags, "host", args.host);
    say(&mut flags, "port", args.port);
    say(&mut flags, "admin_port", args.admin_port);
    say(&mut flags, "pairing_approval", args.pairing_approval);
    say(&mut flags, "pairing_seconds", args.pairing_seconds);
    say(&mut flags, "batch_size", args.batch_size);
    say(&mut flags, "conflict_resolution", args.conflict_resolution);
    say(&mut flags, "discovery", args.no_discovery.then_some(false));
    say(&mut flags, "live", args.no_live.then_some(false));
    flags
}
