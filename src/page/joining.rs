//! Pairing with a device that shows a code, from the page: begun with the code's text or picture,
//! going on by itself until that device's person has typed the digits.

use std::sync::{Arc, Mutex};

use storysync_engine::trust::pairing::Offer;
use tokio::sync::watch;

use super::{Page, lock};
use crate::net::{client, lan};

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

/// Begins to join the device that shows a code.
pub(super) fn begin(page: &Arc<Page>, offer: Offer) {
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
