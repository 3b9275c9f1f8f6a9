//! Pairing with a device that shows a code, from the page: begun with the code's text or picture,
//! going on by itself until that device's person has typed the digits.

use std::sync::{Arc, Mutex};

use axum::extract::Multipart;
use axum::response::{IntoResponse as _, Redirect, Response};
use storysync_engine::trust::pairing::Offer;
use tokio::sync::watch;

use super::visit::Visit;
use super::{Page, lock};
use crate::net::{client, lan};
use crate::qr_picture;

/// How joining another device stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum JoiningState {
    /// Nothing is going on.
    #[default]
    Idle,
    /// The other device was asked; with the digits once it wants them typed.
    Asking {
        /// Four digits.
        code: Option<String>,
    },
    /// It did not work, and why.
    Failed(String),
}

/// Joining another device.
#[derive(Debug)]
pub(super) struct Joining {
    state: watch::Sender<JoiningState>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Default for Joining {
    fn default() -> Self {
        Self { state: watch::Sender::new(JoiningState::Idle), task: Mutex::default() }
    }
}

impl Joining {
    pub(super) fn state(&self) -> JoiningState {
        self.state.borrow().clone()
    }

    /// Told whenever it stands differently.
    pub(super) fn changes(&self) -> watch::Receiver<JoiningState> {
        self.state.subscribe()
    }
}

/// Begins to join the device whose code was pasted, dropped or photographed.
pub(super) async fn join(visit: Visit, mut form: Multipart) -> Response {
    let mut text = String::new();
    let mut picture = Vec::new();
    loop {
        match form.next_field().await {
            Ok(Some(field)) => {
                let is_picture = field.name() == Some("picture");
                match field.bytes().await {
                    Ok(bytes) if is_picture => picture = bytes.to_vec(),
                    Ok(bytes) => text = String::from_utf8_lossy(&bytes).trim().to_owned(),
                    Err(error) => return visit.failed(error.body_text(), "/pair"),
                }
            }
            Ok(None) => break,
            Err(error) => return visit.failed(error.body_text(), "/pair"),
        }
    }
    if text.is_empty() && picture.is_empty() {
        return visit.failed(visit.words.say("join-nothing"), "/pair");
    }
    if text.is_empty() {
        // Looking for a code in a large photograph takes a while.
        let read = tokio::task::spawn_blocking(move || qr_picture::text_in(&picture)).await;
        match read {
            Ok(Ok(found)) => text = found,
            Ok(Err(error)) => return visit.failed(error.to_string(), "/pair"),
            Err(_) => return visit.failed(visit.words.say("join-nothing"), "/pair"),
        }
    }
    let offer = match Offer::parse(&text) {
        Ok(offer) => offer,
        Err(error) => return visit.failed(error.to_string(), "/pair"),
    };
    if offer.identity_key == visit.page.node.identity.public_key() {
        return visit.failed(visit.words.say("join-own"), "/pair");
    }
    begin(&visit.page, offer);
    Redirect::to("/pair").into_response()
}

fn begin(page: &Arc<Page>, offer: Offer) {
    let state = page.joining.state.clone();
    state.send_replace(JoiningState::Asking { code: None });
    let node = Arc::clone(&page.node);
    let task = tokio::spawn(async move {
        let shown = state.clone();
        let mut show_code = move |code: &str| {
            shown.send_replace(JoiningState::Asking { code: Some(code.to_owned()) });
        };
        let joined = client::join(
            &offer,
            &node.identity,
            &node.name(),
            Some(node.settings.lan_port),
            &node.trust,
            &mut show_code,
        )
        .await;
        match joined {
            Ok(_) => {
                node.presence.pairings_changed();
                lan::mirror_devices(&node).await;
                state.send_replace(JoiningState::Idle);
            }
            Err(error) => {
                state.send_replace(JoiningState::Failed(error.to_string()));
            }
        }
    });
    if let Some(before) = lock(&page.joining.task).replace(task) {
        before.abort();
    }
}
