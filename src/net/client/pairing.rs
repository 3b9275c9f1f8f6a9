//! Joining a device that shows a pairing code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;

use super::ClientError;
use super::link::{Counters, Link, connect};
use crate::net::node_state::{now, now_ms, system_rng};
use storysync_engine::store::trust::{EventKind, TrustStore};
use storysync_engine::trust::envelope::MEDIA_TYPE;
use storysync_engine::trust::identity::{DeviceId, Identity};
use storysync_engine::trust::pairing::{
    Attempt, Introduction, Joined, Joining, Offer, REGISTER_TARGET, WINDOW_SECONDS_MAX,
};

/// Time to get a connection, over all addresses.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Pause between asking whether the code was typed.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(700);

/// A connection to the first address that answers: what is sent there only who showed the code can
/// open.
async fn connect_to_any(
    addresses: &[String],
    name: &str,
    counters: &Arc<Counters>,
) -> Result<Link, ClientError> {
    let begun = Instant::now();
    for address in addresses {
        if let Ok(link) = connect(address, name, counters).await {
            return Ok(link);
        }
        if begun.elapsed() > CONNECT_WITHIN {
            break;
        }
    }
    Err(ClientError::Unreachable { name: name.to_owned(), addresses: addresses.to_vec() })
}

/// Pairs with the device that shows an offer. `show_code` is called once when its user must type a
/// code.
///
/// # Errors
/// See [`ClientError`].
pub async fn join(
    offer: &Offer,
    identity: &Identity,
    own_name: &str,
    own_port: Option<u16>,
    trust: &TrustStore,
    show_code: &mut (dyn FnMut(&str) + Send),
) -> Result<DeviceId, ClientError> {
    let name = "the device that shows the code".to_owned();
    let addresses: Vec<String> =
        offer.addresses.iter().map(|(ip, port)| SocketAddr::new(*ip, *port).to_string()).collect();
    let counters = Arc::new(Counters::default());
    let mut first_code: Option<String> = None;
    let begun = Instant::now();
    let attempt = Attempt::new(&mut system_rng());
    loop {
        let mut link = connect_to_any(&addresses, &name, &counters).await?;
        let own = Introduction { name: own_name, port: own_port };
        let (sealed, joining) =
            Joining::start(offer, identity, own, &attempt, now_ms(), &mut system_rng())
                .map_err(|_| ClientError::CodeRefused)?;
        let request = link
            .request(&Method::POST, REGISTER_TARGET)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::new(Bytes::from(sealed)));
        let answer = link.send(request.map_err(|_| ClientError::CodeRefused)?).await?;
        if !answer.sealed {
            return Err(if first_code.is_some() {
                ClientError::NotApproved
            } else {
                ClientError::CodeRefused
            });
        }
        match joining
            .accept(answer.status.as_u16(), &answer.body)
            .map_err(|_| ClientError::NotAuthentic(name.clone()))?
        {
            Joined::Paired(device) => {
                let device_id = trust.store_pairing(&device, &[link.host], now().unix_ms())?;
                trust.note_first_owner(Some(&device_id), now().unix_ms())?;
                trust.note_event(
                    EventKind::Pair,
                    Some(&device_id),
                    "it was paired",
                    now().unix_ms(),
                )?;
                return Ok(device_id);
            }
            Joined::Pending { code } => {
                // The first accepted request fixed the code.
                if first_code.is_none() {
                    show_code(&code);
                    first_code = Some(code);
                }
                // By our own patience: the other device's clock decides how long the code can be
                // used.
                if begun.elapsed() > Duration::from_secs(WINDOW_SECONDS_MAX) {
                    return Err(ClientError::NotApproved);
                }
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }
}
