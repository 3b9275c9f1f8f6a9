// A stranger's client against the test vectors: opens what must open, refuses what must not, seals the same bytes
// again, and seals fresh ones for others to open.
//
//   node sealed_bodies.mjs check FOLDER      the vectors in FOLDER
//   node sealed_bodies.mjs produce FOLDER    fresh requests, as JSON
//   node sealed_bodies.mjs open FOLDER FILE  fresh requests and answers of others, as JSON
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as Automerge from "@automerge/automerge";
import * as ssy from "./protocol.mjs";

const { hex, unhex } = ssy;
const [mode, folder, file] = process.argv.slice(2);
const read = (name) => JSON.parse(readFileSync(join(folder, name)));
const counts = { opened: 0, refused: 0, produced: 0 };

function same(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what}: ${String(actual).slice(0, 200)} instead of ${String(expected).slice(0, 200)}`);
}

async function mustFail(what, attempt) {
  let opened = true;
  try {
    await attempt();
  } catch {
    opened = false;
  }
  if (opened) throw new Error(`opened although ${what}`);
  counts.refused += 1;
}

function bytesOf(body) {
  if (typeof body === "string") return unhex(body);
  const pattern = unhex(body.repeat);
  return Buffer.alloc(body.length, pattern);
}

function sameEnvelope(actual, expected, what) {
  if (typeof expected === "string") same(hex(actual), expected, what);
  else same(`${actual.length} ${hex(ssy.sha256(actual))}`, `${expected.length} ${expected.sha256}`, what);
  counts.produced += 1;
}

function sameExported(actual, expected, what) {
  for (const [name, secret] of Object.entries(expected)) same(hex(actual[name]), secret, `${what}, exported ${name}`);
}

const bodies = read("sealed-bodies.json");
const client = unhex(bodies.client.identity_key);
const server = unhex(bodies.server.identity_key);
const seed = unhex(bodies.client.identity_seed);

const sealing = (vector) => ({
  route: { method: vector.method, target: vector.target, client, server },
  psk: ssy.pairPsk(unhex(vector.pair_secret), vector.epoch),
  recipient: unhex(vector.recipient_key),
  kid: vector.kid,
  seq: vector.seq,
  sentMs: vector.sent_ms,
  body: bytesOf(vector.body),
  seed,
  ikm: unhex(vector.ephemeral_ikm),
  replySecret: unhex(vector.reply_secret),
});

const opening = (vector, altered = {}) => ({
  route: {
    method: altered.method ?? vector.method,
    target: altered.target ?? vector.target,
    client: altered.client_identity_key ? unhex(altered.client_identity_key) : client,
    server: altered.server_identity_key ? unhex(altered.server_identity_key) : server,
  },
  psk: ssy.pairPsk(unhex(altered.pair_secret ?? vector.pair_secret), altered.epoch ?? vector.epoch),
  secret: unhex(altered.recipient_secret ?? vector.recipient_secret),
});

async function checkSealedBodies() {
  const byName = Object.fromEntries(bodies.requests.map((vector) => [vector.name, vector]));
  const awaitedBy = {};
  for (const vector of bodies.requests) {
    const sealed = await ssy.sealRequest(sealing(vector));
    awaitedBy[vector.name] = sealed.awaited;
    sameEnvelope(sealed.envelope, vector.envelope, `request ${vector.name}`);
    same(hex(sealed.info), vector.info, "info");
    same(hex(sealed.awaited.transcript), vector.transcript, "transcript");
    same(hex(sealed.signature), vector.signature, "signature");
    sameExported(sealed.awaited.exported, vector.exported, vector.name);
    if (vector.header_value) same(sealed.envelope.toString("base64url"), vector.header_value, "header");
    const opened = await ssy.openRequest(opening(vector), sealed.envelope);
    same(hex(opened.body), hex(bytesOf(vector.body)), "body");
    same(opened.sentMs, BigInt(vector.sent_ms), "sent_ms");
    const answer = await ssy.sealResponse(opened, vector.response.status, bytesOf(vector.response.body), unhex(vector.response.ephemeral_ikm));
    sameEnvelope(answer.envelope, vector.response.envelope, `answer to ${vector.name}`);
    const answered = await ssy.openResponse(sealed.awaited, vector.response.status, answer.envelope);
    same(hex(answered.body), hex(bytesOf(vector.response.body)), "body of the answer");
    sameExported(answered.exported, vector.response.exported, `answer to ${vector.name}`);
    counts.opened += 2;
  }
  for (const also of bodies.also_opens) {
    const opened = await ssy.openRequest(opening(byName[also.request]), unhex(also.envelope));
    same(hex(opened.body), also.body, also.name);
    counts.opened += 1;
  }
  for (const altered of bodies.must_fail_requests) {
    await mustFail(altered.altered, () => ssy.openRequest(opening(byName[altered.request], altered.with), unhex(altered.envelope)));
  }
  for (const altered of bodies.must_fail_responses) {
    const status = altered.with?.status ?? byName[altered.request].response.status;
    await mustFail(altered.altered, () => ssy.openResponse(awaitedBy[altered.request], status, unhex(altered.envelope)));
  }
}

async function checkPairing() {
  const vector = read("pairing.json");
  const offer = JSON.parse(vector.qr_text);
  const token = Buffer.from(offer.token, "base64url");
  const oneTimeKey = Buffer.from(offer.ek, "base64url");
  const [desktop, phone] = [Buffer.from(offer.id, "base64url"), unhex(vector.phone.identity_key)];
  same(hex(oneTimeKey), vector.one_time_key, "one-time key");
  same(ssy.sha256(oneTimeKey).readBigUInt64BE().toString(), vector.kid, "kid");
  let last;
  for (const step of [vector.first, vector.second]) {
    const sealed = await ssy.sealRegistration({
      token,
      oneTimeKey,
      server: desktop,
      body: Buffer.from(step.body),
      seed: unhex(vector.phone.identity_seed),
      sentMs: step.sent_ms,
      ikm: unhex(step.ephemeral_ikm),
      replySecret: unhex(step.reply_secret),
    });
    sameEnvelope(sealed.envelope, step.envelope, "registration");
    same(hex(sealed.awaited.transcript), step.transcript, "transcript");
    const received = await ssy.openRegistration({ token, secret: unhex(vector.one_time_secret), server: desktop }, sealed.envelope);
    same(received.body.toString(), step.body, "registration");
    const answer = await ssy.openResponse(sealed.awaited, step.status, unhex(step.answer_envelope));
    same(answer.body.toString(), step.answer_body, "answer");
    counts.opened += 2;
    if (step === vector.first) same(ssy.checkCode(sealed.awaited.exported, phone, desktop), vector.code, "code");
    last = { requestExported: sealed.awaited.exported, responseExported: answer.exported, grant: JSON.parse(answer.body) };
  }
  same(last.grant.epoch, vector.epoch, "epoch");
  same(last.grant.device_id, ssy.deviceId(desktop), "device id");
  same(hex(ssy.pairSecret({ token, client: phone, server: desktop, epoch: last.grant.epoch, ...last })), vector.pair_secret, "pair secret");
  for (const altered of vector.must_fail) {
    await mustFail(altered.altered, async () => {
      const received = await ssy.openRegistration({ token, secret: unhex(vector.one_time_secret), server: desktop }, unhex(altered.envelope));
      const registration = JSON.parse(received.body);
      const key = Buffer.from(registration.identity_key, "base64url");
      const usable = Buffer.from(registration.static_key, "base64url").length === 32 && !key.equals(desktop);
      if (ssy.deviceId(key) !== registration.device_id || !usable) throw new Error("it says of itself what is not so");
    });
  }
}

async function checkSealedTokens() {
  const vector = read("sealed-tokens.json");
  const { server, token, ephemeral_ikm: ikm, authorization, must_fail: mustFails } = vector;
  const [identity, secret] = [unhex(server.identity_key), unhex(server.static_secret)];
  const sealed = await ssy.sealToken({ token: unhex(token), server: identity, staticKey: unhex(server.static_key), ikm: unhex(ikm) });
  sameEnvelope(sealed, vector.sealed, "a sealed token");
  same(`Sealed ${sealed.toString("base64url")}`, authorization, "the header");
  const open = (bytes) => ssy.openToken({ server: identity, staticSecret: secret }, unhex(bytes));
  same(hex(await open(vector.sealed)), token, "the token");
  counts.opened += 1;
  for (const { altered, sealed: spoilt } of mustFails) await mustFail(altered, () => open(spoilt));
}

async function checkIdentity() {
  const vector = read("identity.json");
  for (const device of vector.devices) {
    same(hex(ssy.ed25519.getPublicKey(unhex(device.identity_seed))), device.identity_key, "identity key");
    same(hex(ssy.x25519.getPublicKey(unhex(device.static_secret))), device.static_key, "static key");
    same(ssy.deviceId(unhex(device.identity_key)), device.device_id, "device id");
    same(hex(ssy.keyOfDeviceId(device.device_id)), device.identity_key, "key of the device id");
  }
  for (const altered of vector.must_fail) same(ssy.keyOfDeviceId(altered.device_id), null, altered.why);
}

async function checkChanges() {
  const vector = read("changes.json");
  const byName = Object.fromEntries(vector.changes.map((change) => [change.name, change]));
  for (const change of vector.changes) {
    const decoded = Automerge.decodeChange(unhex(change.chunk));
    same(decoded.hash, change.hash, change.name);
    same(hex(ssy.sha256(unhex(change.chunk).subarray(8))), change.hash, "hash");
    same(JSON.stringify([decoded.actor, decoded.seq, decoded.startOp, decoded.time, decoded.message ?? null, decoded.deps]),
      JSON.stringify([change.actor, change.seq, change.start_op, change.time, change.message, change.deps]), change.name);
    same(JSON.stringify(decoded.ops.map((op) => [op.action, op.key, op.pred])), JSON.stringify(change.puts.map((put) => ["set", put.key, put.replaces])), change.name);
    if (change.actor_preimage) same(hex(ssy.sha256(unhex(change.actor_preimage)).subarray(0, 16)), change.actor, "genesis actor");
    counts.opened += 1;
  }
  for (const row of vector.rows) {
    const [document] = Automerge.applyChanges(Automerge.init(), row.after.map((name) => unhex(byName[name].chunk)));
    same(JSON.stringify(Automerge.getHeads(document).sort()), JSON.stringify([...row.heads].sort()), "heads");
  }
}

async function check() {
  await checkSealedBodies();
  await checkPairing();
  await checkSealedTokens();
  await checkIdentity();
  await checkChanges();
  console.log(`opened ${counts.opened}, refused ${counts.refused}, produced ${counts.produced}`);
}

async function produce() {
  const wanted = [
    ["status", "GET", Buffer.alloc(0)],
    ["pull", "POST", Buffer.from('{"limit":10}')],
    ["push", "POST", Buffer.from('{"changes":[]} — Æsa 🦊')],
    ["devices", "GET", Buffer.alloc(0)],
    ["leave", "DELETE", Buffer.alloc(0)],
    ["several segments", "POST", Buffer.alloc(150_000, "storysync ")],
  ];
  const requests = [];
  for (const [name, method, body] of wanted) {
    const vector = bodies.requests.find((request) => request.name === name);
    same(method, vector.method, name);
    const { envelope, awaited } = await ssy.sealRequest({ ...sealing(vector), body, sentMs: Date.now(), ikm: undefined, replySecret: undefined });
    requests.push({ name, body: hex(body), envelope: hex(envelope), awaited: keep(awaited) });
  }
  const pairing = read("pairing.json");
  const offer = JSON.parse(pairing.qr_text);
  const { envelope, awaited } = await ssy.sealRegistration({
    token: Buffer.from(offer.token, "base64url"),
    oneTimeKey: Buffer.from(offer.ek, "base64url"),
    server: Buffer.from(offer.id, "base64url"),
    body: Buffer.from(pairing.first.body),
    seed: unhex(pairing.phone.identity_seed),
  });
  console.log(JSON.stringify({ requests, registration: { envelope: hex(envelope), awaited: keep(awaited) } }));
}

const keep = ({ replySecret, transcript, exported }) => ({ reply_secret: hex(replySecret), transcript: hex(transcript), response_psk: hex(exported.response_psk) });

async function open() {
  const given = JSON.parse(readFileSync(file));
  for (const { name, body, envelope } of given.requests) {
    const vector = bodies.requests.find((request) => request.name === name);
    same(hex((await ssy.openRequest(opening(vector), unhex(envelope))).body), body, name);
    counts.opened += 1;
  }
  for (const { awaited, status, body, envelope } of given.answers) {
    const kept = { replySecret: unhex(awaited.reply_secret), transcript: unhex(awaited.transcript), exported: { response_psk: unhex(awaited.response_psk) } };
    same(hex((await ssy.openResponse(kept, status, unhex(envelope))).body), body, "answer");
    await mustFail("another status", () => ssy.openResponse(kept, status + 1, unhex(envelope)));
    counts.opened += 1;
  }
  console.log(`opened ${counts.opened}, refused ${counts.refused}`);
}

await { check, produce, open }[mode]();
