//! The code this device shows to be paired by: its window, its picture, the digits typed for it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use image::ImageEncoder as _;
use serde_json::json;

use super::node_state::{NodeState, now_ms, system_rng};
use super::reply::Refusal;
use super::{addresses, lock};
use storysync_engine::store::trust::EventKind;
use storysync_engine::trust::pairing::{Claim, Confirmation, PairingWindow};

/// Edge of one QR module in the PNG, in pixels.
const QR_MODULE_PIXELS: u32 = 8;
/// A window with less time left than this is not shown again, in milliseconds.
const WINDOW_LEFT_MS_MIN: u64 = 30_000;

/// The text of the open pairing window; opens one when there is none, or another when asked to.
pub(crate) fn text(node: &Arc<NodeState>, new: bool) -> String {
    let mut window = lock(&node.pairing);
    let now = now_ms();
    let usable = window.as_ref().filter(|window| {
        !new && window.claim().is_none() && window.is_open(now + WINDOW_LEFT_MS_MIN)
    });
    if let Some(open) = usable {
        return open.offer().to_text();
    }
    *lock(&node.pairing_alarm) = None;
    let places = addresses::reachable(node.settings.lan_ip)
        .into_iter()
        .map(|ip| (ip, node.settings.lan_port))
        .collect();
    let (approval, seconds) = node.settings.pairing();
    let opened = PairingWindow::open(&node.identity, places, approval, now, &mut system_rng())
        .open_for(seconds, now);
    let text = window.insert(opened).offer().to_text();
    let closing = Arc::clone(node);
    tokio::spawn(async move {
        // A second later than it can be used: its secrets are wiped also when nobody asks again.
        tokio::time::sleep(Duration::from_secs(seconds + 1)).await;
        let mut window = lock(&closing.pairing);
        if window.as_ref().is_some_and(|window| !window.is_open(now_ms())) {
            *window = None;
        }
    });
    text
}

/// The QR code of a text as a PNG, error correction level M (ISO/IEC 18004).
pub(crate) fn png(text: &str) -> Result<Vec<u8>, Refusal> {
    let broken = |error: String| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the QR code can't be drawn: {error}"),
        )
    };
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M)
        .map_err(|error| broken(error.to_string()))?;
    let modules = code.to_colors();
    let width = u32::try_from(code.width()).unwrap_or(0);
    // Four modules of quiet zone on each side.
    let edge = (width + 8) * QR_MODULE_PIXELS;
    let picture = image::GrayImage::from_fn(edge, edge, |x, y| {
        let module =
            |pixel: u32| (pixel / QR_MODULE_PIXELS).checked_sub(4).filter(|module| *module < width);
        let dark = match (module(x), module(y)) {
            (Some(column), Some(row)) => {
                modules.get((row * width + column) as usize) == Some(&qrcode::Color::Dark)
            }
            _ => false,
        };
        image::Luma([if dark { 0 } else { 255 }])
    });
    let mut png = Vec::new();
    image::codecs::png::PngEncoder::new(&mut png)
        .write_image(picture.as_raw(), edge, edge, image::ExtendedColorType::L8)
        .map_err(|error| broken(error.to_string()))?;
    Ok(png)
}

/// Takes the digits the other device shows.
pub(crate) fn confirm(node: &NodeState, code: &str) -> Result<(), Refusal> {
    let mut window = lock(&node.pairing);
    let Some(open) = window.as_mut().filter(|window| window.is_open(now_ms())) else {
        *window = None;
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "no pairing is waiting; show a code with `storysync pair show` first",
        ));
    };
    match open.confirm(code) {
        Confirmation::Approved => Ok(()),
        Confirmation::NobodyAsked => {
            Err(Refusal::new(StatusCode::CONFLICT, "no device has scanned the code yet"))
        }
        Confirmation::Wrong { tries_left } => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("that is not the code the other device shows; {tries_left} tries are left"),
        )),
        Confirmation::Aborted => {
            *window = None;
            node.note(
                EventKind::Alarm,
                None,
                "a pairing code was typed wrong three times; pairing was aborted",
            );
            Err(Refusal::new(
                StatusCode::GONE,
                "three wrong codes; pairing was aborted, show a new code",
            ))
        }
    }
}

/// Whether a code is shown, for how long it can be used (in ms), and who asks to be paired.
pub(crate) fn state(node: &NodeState) -> serde_json::Value {
    let window = lock(&node.pairing);
    let open = window.as_ref().filter(|window| window.is_open(now_ms()));
    let claim = open.and_then(PairingWindow::claim);
    json!({
        "open": open.is_some(),
        "device_id": claim.map(|claim| claim.device_id.to_string()),
        "device_name": claim.map(|claim| claim.name.clone()),
        "alarm": lock(&node.pairing_alarm).clone(),
    })
}

/// The window that is open, as a person sees it.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    /// The text of the code.
    pub(crate) text: String,
    /// Until when it can be used, Unix time in ms.
    pub(crate) until_ms: u64,
    /// What the device calls itself that has scanned it.
    pub(crate) asks: Option<String>,
    /// Whether that device's digits were typed already.
    pub(crate) approved: bool,
}

/// The window that is open, if one is, and what went wrong with the last.
pub(crate) fn shown(node: &NodeState) -> (Option<Shown>, Option<String>) {
    let alarm = lock(&node.pairing_alarm).clone();
    let window = lock(&node.pairing);
    let open = window.as_ref().filter(|window| window.is_open(now_ms()));
    let shown = open.map(|open| Shown {
        text: open.offer().to_text(),
        until_ms: open.offer().expires_at.saturating_mul(1_000),
        asks: open.claim().map(|claim| claim.name.clone()),
        approved: open.claim().is_some_and(Claim::is_approved),
    });
    (shown, alarm)
}
