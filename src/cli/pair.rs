//! `pair show`, `pair join`, `pair confirm`: the person's side of the ceremony.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value that lacks a key reads as null, it never panics"
)]

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::context::{Context, print_raw, runtime, say};
use crate::net::client;
use crate::net::node_state::{devices_to_mirror, now};
use crate::node::AdminFile;
use crate::qr_picture;
use storysync_engine::trust::pairing::Offer;

/// How long the node on this machine may take to answer.
const ADMIN_WITHIN: Duration = Duration::from_secs(15);
/// What a person should know who names a device in two ways.
const NAME_IN_CONFIG: &str = "config.toml gives this device another name, which it has again from \
    the next start on: change it there, too.\n";
/// Pause between looks at who asks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Calls the node that serves from this data directory.
pub(super) fn admin_call(
    context: &Context,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    admin_call_within(context, method, target, body, ADMIN_WITHIN)
}

/// The same, with another patience.
pub(super) fn admin_call_within(
    context: &Context,
    method: &str,
    target: &str,
    body: Option<&Value>,
    within: Duration,
) -> anyhow::Result<Value> {
    let no_node = || {
        anyhow!(
            "no node is serving from {}: start one with `storysync serve`, then try again",
            context.data_dir.display()
        )
    };
    let file = AdminFile::read(&context.data_dir).ok_or_else(no_node)?;
    let address = file.url.strip_prefix("http://").ok_or_else(no_node)?.to_owned();
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", &address)
        .header("authorization", format!("Bearer {}", file.token))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.map(Value::to_string).unwrap_or_default())))?;
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(&address).await.map_err(|_| no_node())?;
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driving = tokio::spawn(connection);
        let response = requests.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        driving.abort();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        if status == hyper::StatusCode::UNAUTHORIZED {
            return Err(no_node());
        }
        Err(anyhow!(
            answer["detail"]
                .as_str()
                .map_or_else(|| format!("the node answered with status {status}"), str::to_owned)
        ))
    };
    runtime()?.block_on(async {
        tokio::time::timeout(within, exchange)
            .await
            .map_err(|_| anyhow!("the node does not answer; restart it"))?
    })
}

pub(super) fn show(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = name {
        admin_call(context, "POST", "/api/name", Some(&json!({ "name": name })))?;
        if context.says_another_name(Some(name)) {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), NAME_IN_CONFIG.as_bytes());
        }
    }
    let offer = admin_call(context, "GET", "/api/pair/qr-data?new=true", None)?;
    let text = serde_json::to_string(&offer)?;
    if context.json {
        return context.print(&json!({ "qr": text }), |_| {});
    }
    let code = qrcode::QrCode::with_error_correction_level(&text, qrcode::EcLevel::M)?;
    let picture = code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build();
    print_raw(
        format!(
            "{picture}\n\nScan this code on the other device, or run there:\n\n  storysync pair \
                join '{text}'\n\nIt is valid for two minutes and one device.\n"
        )
        .as_bytes(),
    )?;
    wait_for_device(context)
}

/// Shows who scanned the code, takes the digits it shows, and waits until it is in.
fn wait_for_device(context: &Context) -> anyhow::Result<()> {
    let before = paired(context)?;
    let mut asked = false;
    loop {
        let state = admin_call(context, "GET", "/api/pair/state", None)?;
        if let Some(alarm) = state["alarm"].as_str() {
            bail!("{alarm}");
        }
        if let Some((id, name)) =
            paired(context)?.into_iter().find(|device| !before.contains(device))
        {
            return say(&format!("{name} ({id}) is paired with this device.\n"));
        }
        if state["open"] != true {
            bail!("no device was paired; show a new code with `storysync pair show`");
        }
        if !asked && let Some(name) = state["device_name"].as_str() {
            asked = true;
            say(&format!("{name} asks to be paired. "))?;
            if std::io::stdin().is_terminal() {
                ask_for_code(context)?;
            } else {
                print_raw(b"Run `storysync pair confirm CODE` with the four digits it shows.\n")?;
            }
        }
        std::thread::sleep(LOOK_AGAIN_AFTER);
    }
}

fn ask_for_code(context: &Context) -> anyhow::Result<()> {
    loop {
        print_raw(b"Type the four digits it shows: ")?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        match admin_call(
            context,
            "POST",
            "/api/pair/confirm",
            Some(&json!({ "code": line.trim() })),
        ) {
            Ok(_) => return Ok(()),
            Err(error) if error.to_string().contains("tries") => say(&format!("{error}\n"))?,
            Err(error) => return Err(error),
        }
    }
}

/// Active devices as (id, when paired, name).
fn paired(context: &Context) -> anyhow::Result<Vec<(String, String)>> {
    let devices = context.trust()?.devices()?;
    Ok(devices
        .into_iter()
        .filter(storysync_engine::store::trust::TrustedDevice::is_active)
        .map(|device| (format!("{} {}", device.device_id, device.paired_at), device.name))
        .collect())
}

pub(super) fn confirm(context: &Context, code: &str) -> anyhow::Result<()> {
    let answer = admin_call(context, "POST", "/api/pair/confirm", Some(&json!({ "code": code })))?;
    context.print(&answer, |text| text.push_str("Approved; the other device finishes by itself.\n"))
}

pub(super) fn join(
    context: &Context,
    text: Option<String>,
    image: Option<PathBuf>,
    name: Option<&str>,
) -> anyhow::Result<()> {
    let text = match (text, image) {
        // So that the code stands in no shell's history and no list of processes.
        (Some(text), _) if text == "-" => read_line(std::io::stdin().lock())?,
        (Some(text), _) => text,
        (None, Some(image)) => read_picture(&image)?,
        (None, None) => bail!("give the text of the code, or a picture of it with --image"),
    };
    let offer = Offer::parse(&text)?;
    let identity = context.identity()?;
    if offer.identity_key == identity.public_key() {
        bail!(
            "this is this device's own code: run `storysync pair join` on the other device, with \
                its own --data-dir"
        );
    }
    let trust = context.trust()?;
    let (is_named, is_lasting) = (name.is_some(), !context.says_another_name(name));
    let name = context.name(name, &trust)?;
    trust.note_own_name(&name)?;
    if is_named {
        // A node that serves with these keys shall call itself the same; without one there is
        // nobody to tell.
        drop(admin_call(context, "POST", "/api/name", Some(&json!({ "name": name }))));
    }
    // Before the code is used up: a database that can't be synced should be known of now.
    let (mut engine, _) = context.engine(&identity)?;
    let own_port = Some(context.own_port(&trust)?);
    let mut show_code = |code: &str| {
        let line = format!(
            "Type this code on the other device (there: storysync pair confirm \
                {code}):\n\n    {code}\n\n"
        );
        // With --json, stdout belongs to the result.
        let _ = if context.json {
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())
        } else {
            print_raw(line.as_bytes()).map_err(std::io::Error::other)
        };
    };
    let device_id = runtime()?.block_on(client::join(
        &offer,
        &identity,
        &name,
        own_port,
        &trust,
        &mut show_code,
    ))?;
    engine.mirror_devices(&devices_to_mirror(&trust)?, now())?;
    let device = trust
        .find(&device_id)?
        .ok_or_else(|| anyhow!("the device vanished from the list; pair again"))?;
    context.print(&json!({ "device_id": device_id.as_str(), "device_name": device.name }), |text| {
        let _ = writeln!(
            text,
            "Paired with {} ({device_id}). Run `storysync sync` to exchange everything.",
            device.name
        );
        if !is_lasting {
            text.push_str(NAME_IN_CONFIG);
        }
    })
}

/// Longest text of a code read from standard input, in bytes.
const CODE_BYTES_MAX: u64 = 4_096;

/// The first line of standard input.
fn read_line(input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.take(CODE_BYTES_MAX).read_line(&mut line).context("standard input can't be read")?;
    Ok(line.trim().to_owned())
}

/// Reads the text of a QR code from a picture.
pub(super) fn read_picture(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
    qr_picture::text_in(&bytes).with_context(|| path.display().to_string())
}
