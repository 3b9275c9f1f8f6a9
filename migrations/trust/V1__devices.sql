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
    token BLOB,                     -- the token we send the device; NULL once revoked
    addresses TEXT NOT NULL,        -- JSON array of host:port, the last working one first
    paired_at INTEGER NOT NULL,     -- Unix time in ms
    last_sync_at INTEGER,           -- Unix time in ms of the last completed exchange
    revoked_at INTEGER              -- Unix time in ms; NULL while the device is trusted
) STRICT;
CREATE UNIQUE INDEX trust_device_token ON trust_device (token_hash) WHERE token_hash IS NOT NULL;

-- Settings that must survive a restart.
CREATE TABLE trust_setting (
    name TEXT PRIMARY KEY,          -- which
    value TEXT NOT NULL             -- its value
) STRICT;
