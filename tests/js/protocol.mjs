// Sealed bodies, pairing and device ids, written from PROTOCOL.md alone: what any client in JavaScript needs.
import { createHash, hkdfSync, randomBytes } from "node:crypto";
import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, HkdfSha256 } from "@hpke/core";
import { DhkemX25519HkdfSha256 } from "@hpke/dhkem-x25519";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";

const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Chacha20Poly1305() });

export const MEDIA_TYPE = "application/vnd.storysync.sealed";
export const REGISTER_TARGET = "/api/pair/register";
export const NO_CLIENT = Buffer.alloc(32);
const REQUEST = 1;
const RESPONSE = 2;
const REGISTER = 3;
const HEADER_BYTES = 24;
const SEGMENT_BYTES = 65_536;
const TAG_BYTES = 16;
const FINAL = 0x8000_0000;
const LABELS = { [REQUEST]: "storysync/1 request\0", [RESPONSE]: "storysync/1 respons\0", [REGISTER]: "storysync/1 registr\0" };
const EXPORTED = { response_psk: "storysync/1 response-psk", pairwise: "storysync/1 pairwise", check: "storysync/1 check" };

export const hex = (bytes) => Buffer.from(bytes).toString("hex");
export const unhex = (text) => Buffer.from(text, "hex");
export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const ascii = (text) => Buffer.from(text, "latin1");

function u32(number) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes;
}

function u64(number) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(number));
  return bytes;
}

const prefixed = (...parts) => Buffer.concat(parts.flatMap((part) => [u32(part.length), part]));
const need = (condition) => {
  if (!condition) throw new Error("a sealed message could not be opened");
};

function header(kind, kid, seq) {
  return Buffer.concat([ascii("SSY1"), Buffer.from([kind, 1, 0, 0]), u64(kid), u64(seq)]);
}

export function parseHeader(envelope) {
  need(envelope.length >= HEADER_BYTES && envelope.toString("latin1", 0, 4) === "SSY1");
  need(envelope[5] === 1 && envelope.readUInt16BE(6) === 0);
  return { kind: envelope[4], kid: envelope.readBigUInt64BE(8), seq: envelope.readBigUInt64BE(16) };
}

function requestInfo(kind, route, head) {
  const { method, target, client, server } = route;
  return Buffer.concat([ascii(LABELS[kind]), sha256(prefixed(Buffer.from(method), Buffer.from(target), client, server, head))]);
}

function responseInfo(transcript, status) {
  return Buffer.concat([ascii(LABELS[RESPONSE]), transcript, Buffer.from([status >> 8, status & 0xff])]);
}

export const pairPsk = (secret, epoch) => ({ key: secret, id: Buffer.concat([ascii("storysync/1 psk\0"), u32(epoch)]) });
export const registerPsk = (token) => ({ key: token, id: ascii("storysync/1 pair") });
const responsePsk = (exported) => ({ key: exported.response_psk, id: ascii("storysync/1 rpsk") });

async function exportsOf(context) {
  const exported = {};
  for (const [name, label] of Object.entries(EXPORTED)) exported[name] = Buffer.from(await context.export(ascii(label), 32));
  return exported;
}

async function sender(recipient, info, psk, ikm) {
  const recipientPublicKey = await suite.kem.importKey("raw", new Uint8Array(recipient), true);
  return suite.createSenderContext({ recipientPublicKey, info, psk, ...(ikm && { ekm: new Uint8Array(ikm) }) });
}

async function receiver(secret, enc, info, psk) {
  const recipientKey = await suite.kem.importKey("raw", new Uint8Array(secret), false);
  return suite.createRecipientContext({ recipientKey, enc: new Uint8Array(enc), info, psk });
}

async function writeSegments(context, plaintext) {
  const count = Math.max(1, Math.ceil(plaintext.length / SEGMENT_BYTES));
  const parts = [];
  for (let number = 0; number < count; number += 1) {
    const part = plaintext.subarray(number * SEGMENT_BYTES, (number + 1) * SEGMENT_BYTES);
    const head = u32((part.length + TAG_BYTES + (number + 1 === count ? FINAL : 0)) >>> 0);
    parts.push(head, Buffer.from(await context.seal(part, head)));
  }
  return parts;
}

async function readSegments(context, segments) {
  const parts = [];
  for (let at = 0; ; ) {
    need(at + 4 <= segments.length);
    const head = segments.subarray(at, at + 4);
    const number = head.readUInt32BE();
    const length = number % FINAL;
    need(length <= SEGMENT_BYTES + TAG_BYTES && at + 4 + length <= segments.length);
    parts.push(Buffer.from(await context.open(segments.subarray(at + 4, at + 4 + length), head)));
    at += 4 + length;
    if (number >= FINAL) {
      need(at === segments.length);
      return Buffer.concat(parts);
    }
  }
}

// Seals a request. `route` is {method, target, client, server}; `ikm` and `replySecret` are for test vectors only.
export async function sealRequest({ kind = REQUEST, route, psk, recipient, kid, seq, sentMs = Date.now(), body, seed, ikm, replySecret = randomBytes(32) }) {
  const head = header(kind, kid, seq);
  const info = requestInfo(kind, route, head);
  const context = await sender(recipient, info, psk, ikm);
  const enc = Buffer.from(context.enc);
  const unsigned = Buffer.concat([x25519.getPublicKey(replySecret), u64(sentMs), body]);
  const transcript = sha256(info, enc, unsigned);
  const signature = ed25519.sign(Buffer.concat([ascii("storysync/1 req-sig\0"), transcript]), seed);
  const envelope = Buffer.concat([head, enc, ...(await writeSegments(context, Buffer.concat([unsigned, signature])))]);
  return { envelope, info, signature, awaited: { replySecret, transcript, exported: await exportsOf(context) } };
}

// Opens a request, as a server does. `signer` finds the client's key in the body of a registration.
export async function openRequest({ kind = REQUEST, route, psk, secret, signer = () => route.client }, envelope) {
  const head = parseHeader(envelope);
  need(head.kind === kind && envelope.length >= HEADER_BYTES + 32);
  const enc = envelope.subarray(HEADER_BYTES, HEADER_BYTES + 32);
  const info = requestInfo(kind, route, envelope.subarray(0, HEADER_BYTES));
  const context = await receiver(secret, enc, info, psk);
  const plaintext = await readSegments(context, envelope.subarray(HEADER_BYTES + 32));
  need(plaintext.length >= 32 + 8 + 64);
  const unsigned = plaintext.subarray(0, -64);
  const body = unsigned.subarray(40);
  const transcript = sha256(info, enc, unsigned);
  const message = Buffer.concat([ascii("storysync/1 req-sig\0"), transcript]);
  need(ed25519.verify(plaintext.subarray(-64), message, signer(body), { zip215: false }));
  const exported = await exportsOf(context);
  return { body, sentMs: unsigned.readBigUInt64BE(32), replyKey: unsigned.subarray(0, 32), transcript, exported };
}

export async function sealResponse(opened, status, body, ikm) {
  const info = responseInfo(opened.transcript, status);
  const context = await sender(opened.replyKey, info, responsePsk(opened.exported), ikm);
  const envelope = Buffer.concat([header(RESPONSE, 0, 0), Buffer.from(context.enc), ...(await writeSegments(context, body))]);
  return { envelope, exported: await exportsOf(context) };
}

const tokenInfo = (server) => Buffer.concat([ascii("storysync/1 caller \0"), server]);

// A token as only the server reads it, for the header `Authorization: Sealed …`. `ikm` is for test vectors only.
export async function sealToken({ token, server, staticKey, ikm }) {
  const context = await sender(staticKey, tokenInfo(server), undefined, ikm);
  return Buffer.concat([Buffer.from(context.enc), Buffer.from(await context.seal(token, Buffer.alloc(0)))]);
}

// Opens a sealed token, as a server does.
export async function openToken({ server, staticSecret }, sealed) {
  const context = await receiver(staticSecret, sealed.subarray(0, 32), tokenInfo(server));
  return Buffer.from(await context.open(sealed.subarray(32), Buffer.alloc(0)));
}

// Opens the answer to one request; its HTTP status is part of what is verified.
export async function openResponse(awaited, status, envelope) {
  const head = parseHeader(envelope);
  need(head.kind === RESPONSE && head.kid === 0n && head.seq === 0n && envelope.length >= HEADER_BYTES + 32);
  const info = responseInfo(awaited.transcript, status);
  const context = await receiver(awaited.replySecret, envelope.subarray(HEADER_BYTES, HEADER_BYTES + 32), info, responsePsk(awaited.exported));
  const body = await readSegments(context, envelope.subarray(HEADER_BYTES + 32));
  return { body, exported: await exportsOf(context) };
}

const hkdf = (salt, material, info, length) => Buffer.from(hkdfSync("sha256", material, salt, info, length));

// Seals a registration to a QR code's one-time key.
export function sealRegistration({ token, oneTimeKey, server, body, seed, ...stated }) {
  const kid = sha256(oneTimeKey).readBigUInt64BE();
  const route = { method: "POST", target: REGISTER_TARGET, client: NO_CLIENT, server };
  return sealRequest({ kind: REGISTER, route, psk: registerPsk(token), recipient: oneTimeKey, kid, seq: 0, body, seed, ...stated });
}

export function openRegistration({ token, secret, server }, envelope) {
  const route = { method: "POST", target: REGISTER_TARGET, client: NO_CLIENT, server };
  const signer = (body) => Buffer.from(JSON.parse(body).identity_key, "base64url");
  return openRequest({ kind: REGISTER, route, psk: registerPsk(token), secret, signer }, envelope);
}

// The four digits a person carries from the joining device to the one that showed the code.
export function checkCode(exported, client, server) {
  const digits = hkdf(Buffer.alloc(0), exported.check, Buffer.concat([client, server]), 8).readBigUInt64BE() % 10_000n;
  return digits.toString().padStart(4, "0");
}

export function pairSecret({ token, requestExported, responseExported, client, server, epoch }) {
  const material = Buffer.concat([requestExported.pairwise, responseExported.pairwise]);
  return hkdf(token, material, Buffer.concat([ascii("storysync/1 psk"), client, server, u32(epoch)]), 32);
}

const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const PEER_ID_PREFIX = unhex("002408011220");

// The libp2p PeerId of an Ed25519 key.
export function deviceId(key) {
  const bytes = Buffer.concat([PEER_ID_PREFIX, key]);
  let number = BigInt(`0x${hex(bytes)}`);
  let text = "";
  for (; number > 0n; number /= 58n) text = BASE58[Number(number % 58n)] + text;
  const zeros = bytes.findIndex((byte) => byte !== 0);
  return "1".repeat(zeros) + text;
}

// The Ed25519 key a PeerId names, or null.
export function keyOfDeviceId(text) {
  let number = 0n;
  for (const letter of text) {
    const digit = BASE58.indexOf(letter);
    if (digit < 0) return null;
    number = number * 58n + BigInt(digit);
  }
  const digits = number.toString(16);
  const tail = digits.padStart(digits.length + (digits.length % 2), "0");
  const zeros = text.length - text.replace(/^1+/, "").length;
  const bytes = Buffer.concat([Buffer.alloc(zeros), unhex(number === 0n ? "" : tail)]);
  return bytes.length === 38 && bytes.subarray(0, 6).equals(PEER_ID_PREFIX) ? bytes.subarray(6) : null;
}

export { ed25519, x25519 };
