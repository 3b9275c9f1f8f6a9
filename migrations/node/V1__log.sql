-- storysync's own tables in the app's file. Every name begins with sync_, so that the app, its
-- backups and its tools can tell them from content. No secret ever stands here: a copied file must
-- not carry an identity with it.

-- One row: which life of the log this is, and what it was last seen to look like.
CREATE TABLE sync_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), -- always 1
    device_id TEXT NOT NULL,               -- PeerId of the device whose node owns this file
    epoch BLOB NOT NULL,                   -- 16 random bytes, new whenever the log starts another life
    schema_version INTEGER NOT NULL,       -- PRAGMA schema_version when the triggers were last verified
    created_at INTEGER NOT NULL            -- Unix time in ms of the migration
) STRICT;

-- One row: set to 1 inside our own write transactions, so that the triggers let them pass.
CREATE TABLE sync_writer (
    id INTEGER PRIMARY KEY CHECK (id = 1), -- always 1
    own INTEGER NOT NULL                   -- 1 while storysync itself is writing, else 0
) STRICT;
INSERT INTO sync_writer (id, own) VALUES (1, 0);

-- What the app wrote and nobody has looked at yet. Filled by triggers; each line is a hint to look
-- at a row, never the row itself, so a column added or dropped by the app breaks nothing.
CREATE TABLE sync_outbox (
    seq INTEGER PRIMARY KEY,      -- order of writing since the last drain
    table_name TEXT NOT NULL,     -- content table
    operation TEXT NOT NULL,      -- I inserted, U updated, D deleted, R perhaps replaced, X sync_uuid changed by an update
    local_id INTEGER NOT NULL,    -- the row's id (rowid) in the app's table
    sync_uuid TEXT,               -- the row's uuid; of D, R and X the one that stood there before
    base_version INTEGER,         -- set when the app wrote an older version back: the version its form was read at
    at TEXT NOT NULL              -- UTC time of the write, YYYY-MM-DD HH:MM:SS.ffffff
) STRICT;

-- Names of content tables, also of tables only other devices have.
CREATE TABLE sync_table (
    id INTEGER PRIMARY KEY,       -- short name of the table below
    name TEXT NOT NULL UNIQUE,    -- the app's name of it
    high_id INTEGER NOT NULL,     -- highest local id ever seen in, or referred to, in this table
    columns TEXT NOT NULL         -- column names at the last look, as a JSON array; [] for tables unknown here
) STRICT;

-- Every row any device has told of: what stands where, and what the app's table shows of it.
CREATE TABLE sync_row (
    id INTEGER PRIMARY KEY,       -- short name of the row below
    table_id INTEGER NOT NULL,    -- sync_table.id
    sync_uuid TEXT NOT NULL,      -- the row's name on every device
    local_id INTEGER,             -- its id in the app's table, kept after deletion so that it can come back to it
    present INTEGER NOT NULL,     -- 1 while the row stands in the app's table
    version INTEGER NOT NULL,     -- the version last shown; 0 while the row is only referred to
    differs TEXT,                 -- JSON: by column, what the document says and what the table shows instead
    parked TEXT,                  -- why the row can't be written into the app's table, else NULL
    conflicts INTEGER NOT NULL    -- number of open clashes
) STRICT;
CREATE UNIQUE INDEX sync_row_uuid ON sync_row (table_id, sync_uuid);
CREATE UNIQUE INDEX sync_row_local ON sync_row (table_id, local_id) WHERE present = 1;
CREATE INDEX sync_row_gone ON sync_row (table_id, local_id) WHERE present = 0;
CREATE INDEX sync_row_open ON sync_row (conflicts) WHERE conflicts > 0;
CREATE INDEX sync_row_parked ON sync_row (table_id) WHERE parked IS NOT NULL;

-- The change log: every admitted automerge change, in the order of admission.
CREATE TABLE sync_change (
    seq INTEGER PRIMARY KEY,      -- order of admission here; cursors point at it
    row_id INTEGER NOT NULL,      -- sync_row.id
    hash BLOB NOT NULL,           -- SHA-256 name of the change
    chain BLOB NOT NULL,          -- 16 bytes: running hash of the log up to and with this change
    origin INTEGER,               -- sync_peer.id it came from; NULL when written here
    admitted_at INTEGER NOT NULL, -- Unix time in ms
    bytes BLOB NOT NULL           -- the automerge change chunk
) STRICT;
CREATE UNIQUE INDEX sync_change_hash ON sync_change (hash);
CREATE INDEX sync_change_row ON sync_change (row_id);

-- Which rows refer to which, by documents: so that arrivals and departures find their referrers.
CREATE TABLE sync_ref (
    target INTEGER NOT NULL,      -- sync_row.id referred to, known or not yet
    referrer INTEGER NOT NULL,    -- sync_row.id that refers
    column_name TEXT NOT NULL,    -- by this column
    PRIMARY KEY (target, referrer, column_name)
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_ref_referrer ON sync_ref (referrer);

-- Rows that hold an integer which is no row's id (yet): should the app ever put a row there, they refer to it.
CREATE TABLE sync_dangling (
    table_id INTEGER NOT NULL,    -- sync_table.id of the table referred to
    local_id INTEGER NOT NULL,    -- the integer
    referrer INTEGER NOT NULL,    -- sync_row.id that holds it
    PRIMARY KEY (table_id, local_id, referrer)
) STRICT, WITHOUT ROWID;

-- How far each device and we have told each other everything. Not who they are: see the data directory.
CREATE TABLE sync_peer (
    id INTEGER PRIMARY KEY,       -- short name of the device
    device_id TEXT NOT NULL UNIQUE, -- PeerId
    pull_cursor TEXT,             -- the device's own opaque cursor, as it last gave it
    pushed_seq INTEGER NOT NULL,  -- our log up to here is known to the device
    peer_epoch TEXT,              -- the epoch the device named last; another one starts both directions anew
    last_sync_at INTEGER          -- Unix time in ms of the last completed exchange
) STRICT;

-- Changes that came before the changes they build on.
CREATE TABLE sync_pending (
    hash BLOB PRIMARY KEY,        -- SHA-256 name of the change
    row_id INTEGER NOT NULL,      -- sync_row.id
    origin INTEGER,               -- sync_peer.id it came from
    received_at INTEGER NOT NULL, -- Unix time in ms
    bytes BLOB NOT NULL           -- the automerge change chunk
) STRICT;
CREATE INDEX sync_pending_row ON sync_pending (row_id);

-- Storymaster's documented tables: created as documented where they are missing, adopted where they
-- are not. Not STRICT, because the app's own models declare them.
CREATE TABLE IF NOT EXISTS sync_device (
    id INTEGER NOT NULL,                                    -- local id
    device_id VARCHAR(255) NOT NULL,                        -- PeerId, or the name an older server used
    device_name VARCHAR(255) NOT NULL,                      -- as its user calls it
    auth_token VARCHAR(255) NOT NULL,                       -- documented column; holds no token of storysync's
    last_sync_at DATETIME,                                  -- UTC
    is_active BOOLEAN NOT NULL,                             -- paired now
    sync_uuid VARCHAR(36) NOT NULL,                         -- documented column
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, -- paired at, UTC
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, -- UTC
    deleted_at DATETIME,                                    -- documented column
    version INTEGER NOT NULL,                               -- documented column
    PRIMARY KEY (id),
    UNIQUE (device_id),
    UNIQUE (auth_token)
);
CREATE TABLE IF NOT EXISTS sync_log (
    id INTEGER NOT NULL,                                    -- local id
    device_id INTEGER NOT NULL,                             -- sync_device.id
    entity_type VARCHAR(100) NOT NULL,                      -- content table
    entity_id INTEGER NOT NULL,                             -- local id of the row, 0 when it has none here
    operation VARCHAR(20) NOT NULL,                         -- create, update, delete
    synced_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,  -- UTC
    sync_uuid VARCHAR(36) NOT NULL,                         -- of this line of the log
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, -- UTC
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, -- UTC
    deleted_at DATETIME,                                    -- documented column
    version INTEGER NOT NULL,                               -- documented column
    PRIMARY KEY (id),
    FOREIGN KEY(device_id) REFERENCES sync_device (id)
);
CREATE TABLE IF NOT EXISTS sync_conflict (
    id INTEGER NOT NULL,                                     -- local id
    entity_type VARCHAR(100) NOT NULL,                       -- content table
    target_sync_uuid VARCHAR(36) NOT NULL,                   -- the row
    mine_data TEXT NOT NULL,                                 -- JSON
    theirs_data TEXT NOT NULL,                               -- JSON
    mine_version INTEGER NOT NULL,                           -- documented column
    theirs_version INTEGER NOT NULL,                         -- documented column
    source VARCHAR(10) NOT NULL,                             -- pull or push
    detected_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, -- UTC
    resolved_at DATETIME,                                    -- UTC
    resolution VARCHAR(20),                                  -- how it ended
    sync_uuid VARCHAR(36) NOT NULL,                          -- of this line
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,  -- UTC
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,  -- UTC
    deleted_at DATETIME,                                     -- documented column
    version INTEGER NOT NULL,                                -- documented column
    PRIMARY KEY (id)
);
