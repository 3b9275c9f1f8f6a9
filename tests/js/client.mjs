// A whole client without automerge, written from PROTOCOL.md alone: joins by QR text, pulls, pushes one edit, leaves.
//
//   node client.mjs 'QR TEXT' TABLE
//
// Prints what happened as JSON. The node must let devices in without a code (--pairing-approval none).
import { gunzipSync } from "node:zlib";
import { randomBytes } from "node:crypto";
import * as ssy from "./protocol.mjs";

const [qr, table] = process.argv.slice(2);
const offer = JSON.parse(qr);
const base = `http://${offer.ip}:${offer.port}`;
const seed = randomBytes(32);
const me = Buffer.from(ssy.ed25519.getPublicKey(seed));
const server = Buffer.from(offer.id, "base64url");
const url64 = (bytes) => Buffer.from(bytes).toString("base64url");

// Sends sealed bytes; only a sealed answer is an answer.
async function exchange(method, target, envelope, sealedToken) {
  const headers = { ...(sealedToken && { Authorization: `Sealed ${url64(sealedToken)}` }) };
  if (method === "POST") headers["Content-Type"] = ssy.MEDIA_TYPE;
  else headers["X-Storysync-Sealed"] = url64(envelope);
  const answer = await fetch(base + target, { method, headers, ...(method === "POST" && { body: envelope }) });
  const body = Buffer.from(await answer.arrayBuffer());
  return { status: answer.status, sealed: answer.headers.get("content-type") === ssy.MEDIA_TYPE, body };
}

async function join() {
  const token = Buffer.from(offer.token, "base64url");
  const registration = {
    device_id: ssy.deviceId(me),
    device_name: "a client in JavaScript",
    identity_key: url64(me),
    static_key: url64(ssy.x25519.getPublicKey(randomBytes(32))),
    platform: process.platform,
  };
  const oneTimeKey = Buffer.from(offer.ek, "base64url");
  const { envelope, awaited } = await ssy.sealRegistration({ token, oneTimeKey, server, body: Buffer.from(JSON.stringify(registration)), seed });
  const answer = await exchange("POST", ssy.REGISTER_TARGET, envelope);
  if (!answer.sealed || answer.status !== 200) throw new Error(`not let in: ${answer.status}`);
  const { body, exported } = await ssy.openResponse(awaited, answer.status, answer.body);
  const grant = JSON.parse(body);
  if (grant.device_id !== ssy.deviceId(server)) throw new Error("not who showed the code");
  const { epoch } = grant;
  const secret = ssy.pairSecret({ token, requestExported: awaited.exported, responseExported: exported, client: me, server, epoch });
  return { token: grant.auth_token, psk: ssy.pairPsk(secret, epoch), staticKey: Buffer.from(grant.static_key, "base64url") };
}

const pair = await join();
let prekey = null;

async function send(method, target, body, key) {
  const route = { method, target, client: me, server };
  const sealed = await ssy.sealRequest({ route, psk: pair.psk, recipient: key.key, kid: key.kid, seq: key.seq, body, seed });
  const sealedToken = await ssy.sealToken({ token: Buffer.from(pair.token, "base64url"), server, staticKey: pair.staticKey });
  return { ...sealed, answer: await exchange(method, target, sealed.envelope, sealedToken) };
}

async function opened({ awaited, answer }) {
  if (!answer.sealed) throw new Error(`a plain ${answer.status} is no answer`);
  const { body } = await ssy.openResponse(awaited, answer.status, answer.body);
  const json = JSON.parse(body[0] === 0x1f && body[1] === 0x8b ? gunzipSync(body) : body);
  if (answer.status !== 200) throw new Error(`${answer.status}: ${json.detail}`);
  return json;
}

// Asks for a prekey with the only call the static key opens.
async function refresh() {
  const status = await opened(await send("GET", "/api/sync/status", Buffer.alloc(0), { kid: 0, seq: 0, key: pair.staticKey }));
  prekey = { kid: status.kid, key: Buffer.from(status.prekey, "base64url"), seq: 0 };
  return status;
}

async function call(method, target, json) {
  const body = json === undefined ? Buffer.alloc(0) : Buffer.from(JSON.stringify(json));
  for (let attempt = 0; attempt < 2; attempt += 1) {
    if (!prekey) await refresh();
    prekey.seq += 1;
    const sent = await send(method, target, body, prekey);
    if (sent.answer.sealed || sent.answer.status !== 409) return { ...sent, json: await opened(sent) };
    prekey = null;
  }
  throw new Error("the node forgets its prekeys faster than they can be used");
}

const withoutPrekey = await send("POST", "/api/sync/pull", Buffer.from("{}"), { kid: 0, seq: 0, key: pair.staticKey });
const page = (await call("POST", "/api/sync/pull", { entity_types: [table], limit: 1000, compress: "gzip" })).json;
const row = page.changes[0];
const edit = { ...row, operation: "update", data: { ...row.data, first_name: "Æsa 🦊 of JavaScript" }, updated_at: new Date().toISOString() };
delete edit.automerge;
const pushed = await call("POST", "/api/sync/push", { changes: [edit] });
const replayed = await exchange("POST", "/api/sync/push", pushed.envelope, pair.token);
const devices = (await call("GET", "/api/devices")).json.devices;
const own = devices.find((device) => device.device_id === ssy.deviceId(me));
await call("DELETE", `/api/devices/${ssy.deviceId(me)}`);
const afterLeaving = await send("GET", "/api/sync/status", Buffer.alloc(0), { kid: 0, seq: 0, key: pair.staticKey });
console.log(JSON.stringify({
  pulled: page.changes.length,
  sync_uuid: row.sync_uuid,
  accepted: pushed.json.accepted,
  message: pushed.json.message,
  replayed: replayed.status,
  without_prekey: withoutPrekey.answer.status,
  shown_before: own?.is_active === true,
  after_leaving: afterLeaving.answer.status,
}));
