//! `storysync demo`: a desktop and a phone in a temporary folder, over real HTTP on loopback.

use super::context::Context;

pub(super) fn run(_context: &Context) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
