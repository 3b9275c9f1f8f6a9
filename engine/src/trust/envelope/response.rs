//! Sealed responses: what the asking side awaits, and what the answering side seals.

use super::super::agreement::{AgreementKey, Encapsulation};
use super::{
    ENC_BYTES, Exports, HEADER_BYTES, Header, OpenError, RESPONSE_HEADER, RESPONSE_PSK_ID,
    SealError, Sender, read_segments, response_info, start_receiving, start_sending,
    write_segments,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// What a client keeps until the answer comes.
pub struct AwaitedResponse {
    pub(in crate::trust) reply_key: AgreementKey,
    pub(in crate::trust) transcript: [u8; 32],
    pub(in crate::trust) exports: Exports,
}

impl std::fmt::Debug for AwaitedResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AwaitedResponse(…)")
    }
}

impl AwaitedResponse {
    /// Opens the answer; its HTTP status is part of what is verified.
    ///
    /// # Errors
    /// When it is not the answer to this request, sealed by whom we asked.
    pub fn open(self, status: u16, envelope: &[u8]) -> Result<OpenedResponse, OpenError> {
        let header = Header::parse(envelope)?;
        if header != RESPONSE_HEADER {
            return Err(OpenError);
        }
        let (_, rest) = envelope.split_at_checked(HEADER_BYTES).ok_or(OpenError)?;
        let (enc, segments) = rest.split_at_checked(ENC_BYTES).ok_or(OpenError)?;
        let info = response_info(&self.transcript, status);
        let mut receiver = start_receiving(
            self.exports.response_psk.expose(),
            RESPONSE_PSK_ID,
            &self.reply_key,
            enc,
            &info,
        )?;
        let body = read_segments(&mut receiver, segments)?;
        Ok(OpenedResponse {
            body,
            request_exports: self.exports,
            response_exports: Exports::of_receiver(&receiver),
        })
    }

    /// The secrets of the request's exchange.
    #[must_use]
    pub fn exports(&self) -> &Exports {
        &self.exports
    }
}

/// A verified answer.
#[derive(Debug)]
pub struct OpenedResponse {
    /// The body.
    pub body: Zeroizing<Vec<u8>>,
    /// Secrets of the request's exchange.
    pub request_exports: Exports,
    /// Secrets of the response's exchange.
    pub response_exports: Exports,
}

/// Seals the answer to one request.
#[derive(Debug, Clone)]
pub struct Responder {
    pub(in crate::trust) reply_key: [u8; 32],
    pub(in crate::trust) transcript: [u8; 32],
    pub(in crate::trust) exports: Exports,
}

impl Responder {
    /// Secrets of the request's exchange.
    #[must_use]
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Starts the answer that will be sent with `status`.
    ///
    /// # Errors
    /// When the client's reply key is unusable.
    pub fn begin(self, status: u16, rng: &mut impl CryptoRng) -> Result<ResponseSealer, SealError> {
        let info = response_info(&self.transcript, status);
        let encapsulation = Encapsulation::to(&self.reply_key, rng).map_err(|_| SealError)?;
        let (enc, sender) = start_sending(
            encapsulation,
            self.exports.response_psk.expose(),
            RESPONSE_PSK_ID,
            &info,
        )?;
        Ok(ResponseSealer { enc, exports: Exports::of_sender(&sender), sender })
    }

    /// Seals the answer that will be sent with `status`.
    ///
    /// # Errors
    /// When the client's reply key is unusable.
    pub fn seal(
        self,
        status: u16,
        body: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        self.begin(status, rng)?.seal(body)
    }
}

/// An answer whose secrets exist already, and whose body may therefore depend on them.
pub struct ResponseSealer {
    pub(super) enc: [u8; ENC_BYTES],
    pub(super) sender: Sender,
    pub(in crate::trust) exports: Exports,
}

impl ResponseSealer {
    /// Secrets of the response's exchange.
    #[must_use]
    pub fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Seals the body.
    ///
    /// # Errors
    /// Never for bodies under [`super::SEALED_BYTES_MAX`].
    pub fn seal(mut self, body: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut envelope = RESPONSE_HEADER.bytes().to_vec();
        envelope.extend_from_slice(&self.enc);
        write_segments(&mut self.sender, body, &mut envelope)?;
        Ok(envelope)
    }
}

impl std::fmt::Debug for ResponseSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseSealer(…)")
    }
}
