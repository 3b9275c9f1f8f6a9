-- The device's own file of trust, in its data directory and never in the app's database: a restored
-- or copied database must not bring a revoked device back, nor carry a secret along.

-- Every device ever paired with.
CREATE TABLE trust_device (
    device_id TEXT PRIMARY KEY,     -- PeerId, which is the Ed25519 identity key in text
    name TEXT NOT NULL,             -- as its user calls it
    platform TEXT NOT NULL,         -- what it said it runs on; for people only
    identity_key BLOB NOT NULL,     -- Ed25519 public key, 32 bytes
    static_key BLOB NOT NULL,       -- X25519 public key, 32 bytes: seals the first status call
    pair_epoch INTEGER NOT NULL,    -- counts pairings with this device, from 1
    pair_secret BLOB,               -- 32 bytes; NULL once revoked
    token_hash BLOB,                -- SHA-256 of the token the device sends us; NULL once revoked
    token_made_at INTEGER NOT NULL, -- Unix time in ms when that token was made
    next_token_hash BLOB,           -- SHA-256 of its successor, told to the device and not used yet
    next_token_made_at INTEGER,     -- Unix time in ms when the successor was made
    token BLOB,                     -- the token we send the device; NULL once revoked
    addresses TEXT NOT NULL,        -- JSON array of host:port, the last working one first
    installations TEXT NOT NULL,    -- JSON array of the installations its keys were used from, the newest last
    paired_as TEXT,                 -- PeerId we had when we paired; with other keys of our own the pairing rests
    paired_at INTEGER NOT NULL,     -- Unix time in ms
    last_sync_at INTEGER,           -- Unix time in ms of the last completed exchange
    revoked_at INTEGER,             -- Unix time in ms; NULL while the device is trusted
    revoked_by TEXT,                -- here, itself, or the PeerId of the device that told us
    frozen_at INTEGER,              -- Unix time in ms since when nothing is taken from it, else NULL
    twice_at INTEGER                -- Unix time in ms when its keys were last seen in use from two installations
) STRICT;
CREATE UNIQUE INDEX trust_device_token ON trust_device (token_hash) WHERE token_hash IS NOT NULL;
CREATE UNIQUE INDEX trust_device_next_token ON trust_device (next_token_hash) WHERE next_token_hash IS NOT NULL;

-- Which revocations other devices told us of. One device is sent away on the word of another once; after
-- that, a person has to do it.
CREATE TABLE trust_notice (
    teller TEXT NOT NULL,           -- PeerId of the device that told us
    device_id TEXT NOT NULL,        -- PeerId of the device it no longer trusts
    revoked_at INTEGER NOT NULL,    -- Unix time in ms, by the teller's clock, of the first such notice
    PRIMARY KEY (teller, device_id)
) STRICT, WITHOUT ROWID;

-- Who was let in, sent away or refused, and what was decided: what `storysync log` shows beside the rows.
CREATE TABLE trust_event (
    id INTEGER PRIMARY KEY,         -- order
    at INTEGER NOT NULL,            -- Unix time in ms of the last time
    times INTEGER NOT NULL,         -- how often, when it happened again and again
    kind TEXT NOT NULL,             -- pair, revoke, refuse, freeze, resolve, alarm, rename, twice, new-identity
    device_id TEXT NOT NULL,        -- PeerId it is about; empty when nobody knows
    device_name TEXT NOT NULL,      -- as it was called then
    detail TEXT NOT NULL            -- a sentence; never a secret, never story text
) STRICT;

-- Settings that must survive a restart.
CREATE TABLE trust_setting (
    name TEXT PRIMARY KEY,          -- which
    value TEXT NOT NULL             -- its value
) STRICT;
