-- storysync's own tables in the app's file. Every name begins with sync_, so that the app, its
-- backups and its tools can tell them from content. No secret ever stands here: a copied file must
-- not carry an identity with it.
--
-- No table is STRICT: the app opens this file with a SQLite of its own, which may be as old as 3.31, and STRICT came with 3.37; an
-- older SQLite takes a schema that holds such a table for damaged.

-- One row: which epoch of the log this is, and what it was last seen to look like.
CREATE TABLE sync_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), -- always 1
    device_id TEXT NOT NULL,               -- PeerId of the device whose node owns this file
    epoch BLOB NOT NULL,                   -- 16 random bytes, new whenever the log begins another epoch
    schema_version INTEGER NOT NULL,       -- PRAGMA schema_version when the triggers were last verified
    created_at INTEGER NOT NULL,           -- Unix time in ms of the migration
    sent_at INTEGER,              -- Unix time in ms when changes were first sent to anyone; NULL until then, while rows may still take other names
    began_by TEXT,                -- restored, copied, replaced, renamed: why this epoch of the log began; NULL for the first
    began_at INTEGER,             -- Unix time in ms; NULL for the first epoch
    entities INTEGER NOT NULL DEFAULT 0 -- rows that stand in the app's tables, counted by whoever writes their lines
);

-- One row: set to 1 inside our own write transactions, so that the triggers let them pass.
CREATE TABLE sync_writer (
    id INTEGER PRIMARY KEY CHECK (id = 1), -- always 1
    own INTEGER NOT NULL                   -- 1 while storysync itself is writing, else 0
);
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
);
-- An app that empties a table and fills it again asks of each row whether its id was deleted, or named, before.
CREATE INDEX sync_outbox_deleted ON sync_outbox (table_name, local_id) WHERE operation = 'D';
CREATE INDEX sync_outbox_placed ON sync_outbox (table_name, local_id) WHERE operation = 'P';

-- Names of content tables, also of tables only other devices have.
CREATE TABLE sync_table (
    id INTEGER PRIMARY KEY,       -- short name of the table below
    name TEXT NOT NULL UNIQUE,    -- the app's name of it
    high_id INTEGER NOT NULL,     -- highest local id ever seen in, or referred to, in this table
    columns TEXT NOT NULL         -- column names at the last look, as a JSON array; [] for tables unknown here
);

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
);
CREATE UNIQUE INDEX sync_row_uuid ON sync_row (table_id, sync_uuid);
CREATE UNIQUE INDEX sync_row_local ON sync_row (table_id, local_id) WHERE present = 1;
CREATE INDEX sync_row_gone ON sync_row (table_id, local_id) WHERE present = 0;
CREATE INDEX sync_row_open ON sync_row (conflicts) WHERE conflicts > 0;
CREATE INDEX sync_row_parked ON sync_row (table_id, parked) WHERE parked IS NOT NULL;
-- Rows that were deleted and that a trigger of the app's does not let go are tried again whenever others move.
CREATE INDEX sync_row_kept ON sync_row (parked) WHERE parked IS NOT NULL AND present = 1;

-- The change log: every admitted automerge change, in the order of admission.
CREATE TABLE sync_change (
    seq INTEGER PRIMARY KEY,      -- order of admission here; cursors point at it
    row_id INTEGER NOT NULL,      -- sync_row.id
    hash BLOB NOT NULL,           -- SHA-256 name of the change
    chain BLOB NOT NULL,          -- 16 bytes: running hash of the log up to and with this change
    origin INTEGER,               -- sync_peer.id it came from; NULL when written here
    admitted_at INTEGER NOT NULL, -- Unix time in ms
    bytes BLOB NOT NULL,          -- the automerge change chunk
    came_from INTEGER,            -- sync_peer.id that sent it, unlike origin never forgotten; NULL when written here
    pack INTEGER                  -- sync_pack.id that holds the change chunk, bytes being empty; NULL while it stands here
);
-- Eight bytes of a hash find a change as well as 32, in a third of the pages; whoever adds a change looks first whether it is there.
CREATE INDEX sync_change_hash ON sync_change (substr(hash, 1, 8));
CREATE INDEX sync_change_origin ON sync_change (origin) WHERE origin IS NOT NULL;
CREATE INDEX sync_change_row ON sync_change (row_id);

-- Which rows refer to which, by documents: so that arrivals and departures find their referrers.
CREATE TABLE sync_ref (
    target INTEGER NOT NULL,      -- sync_row.id referred to, known or not yet
    referrer INTEGER NOT NULL,    -- sync_row.id that refers
    column_name TEXT NOT NULL,    -- by this column
    PRIMARY KEY (target, referrer, column_name)
) WITHOUT ROWID;
CREATE INDEX sync_ref_referrer ON sync_ref (referrer);

-- Rows that hold an integer which is no row's id (yet): should the app ever put a row there, they refer to it.
CREATE TABLE sync_dangling (
    table_id INTEGER NOT NULL,    -- sync_table.id of the table referred to
    local_id INTEGER NOT NULL,    -- the integer
    referrer INTEGER NOT NULL,    -- sync_row.id that holds it
    PRIMARY KEY (table_id, local_id, referrer)
) WITHOUT ROWID;

-- How far each device and we have told each other everything. Not who they are: see the data directory.
CREATE TABLE sync_peer (
    id INTEGER PRIMARY KEY,       -- short name of the device
    device_id TEXT NOT NULL UNIQUE, -- PeerId
    pull_cursor TEXT,             -- the device's own opaque cursor, as it last gave it
    pushed_seq INTEGER NOT NULL,  -- our log up to here is known to the device
    peer_epoch TEXT,              -- the epoch the device named last; another one starts both directions anew
    last_sync_at INTEGER,         -- Unix time in ms of the last completed exchange
    told_epoch TEXT               -- our epoch, hexadecimal, in which the two logs were last compared or told whole; NULL until then
);

-- Changes that came before the changes they build on.
CREATE TABLE sync_pending (
    hash BLOB PRIMARY KEY,        -- SHA-256 name of the change
    row_id INTEGER NOT NULL,      -- sync_row.id
    origin INTEGER,               -- sync_peer.id it came from
    received_at INTEGER NOT NULL, -- Unix time in ms
    bytes BLOB NOT NULL           -- the automerge change chunk
);
CREATE INDEX sync_pending_row ON sync_pending (row_id);
-- How much of one device's is waiting is asked with each change that has to wait.
CREATE INDEX sync_pending_origin ON sync_pending (origin);

-- Older changes of one row, compressed together. Nothing is thrown away: their lines in sync_change keep their place, name and
-- origin, and whoever is behind is told the same bytes as ever.
CREATE TABLE sync_pack (
    id INTEGER PRIMARY KEY,       -- named by sync_change.pack
    row_id INTEGER NOT NULL,      -- sync_row.id whose changes they are
    size INTEGER NOT NULL,        -- bytes before compressing
    bytes BLOB NOT NULL           -- zstd; of each change: seq and length in 8 bytes each, big-endian, then the change chunk
);
CREATE INDEX sync_pack_row ON sync_pack (row_id);

-- Rows that wait because another row has the same unique values: references to them show that one.
CREATE TABLE sync_stand_in (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id that waits
    stand_in INTEGER NOT NULL,    -- sync_row.id that stays
    columns TEXT NOT NULL         -- the unique columns, as a JSON array
);
CREATE INDEX sync_stand_in_for ON sync_stand_in (stand_in);

-- The unique values waiting rows would have: a row that takes them later may be the one to wait behind.
CREATE TABLE sync_waiting_key (
    key BLOB NOT NULL,            -- 16 bytes: hash of table, unique columns and values
    row_id INTEGER NOT NULL,      -- sync_row.id that waits
    PRIMARY KEY (key, row_id)
) WITHOUT ROWID;
CREATE INDEX sync_waiting_key_row ON sync_waiting_key (row_id);

-- Every clash that was ever noticed here, and how it ended.
CREATE TABLE sync_clash (
    id INTEGER PRIMARY KEY,       -- order of noticing
    conflict_id TEXT NOT NULL,    -- its name on every device
    row_id INTEGER NOT NULL,      -- sync_row.id it is in
    kind TEXT NOT NULL,           -- field, delete_edit, orphan, unique, schema
    line INTEGER NOT NULL,        -- sync_conflict.id, the documented line
    detected_at INTEGER NOT NULL, -- Unix time in ms
    ended_at INTEGER,             -- Unix time in ms; NULL while it is open
    ending TEXT,                  -- resolved: somebody wrote what clashed; superseded: it went with something else
    ended_by TEXT                 -- PeerId of the device whose change ended it
);
CREATE INDEX sync_clash_row ON sync_clash (row_id);

-- What devices that read plain rows were last told of each: an edit of theirs is made on top of that.
CREATE TABLE sync_served (
    peer_id INTEGER NOT NULL,     -- sync_peer.id
    row_id INTEGER NOT NULL,      -- sync_row.id
    seq INTEGER NOT NULL,         -- sync_change.seq up to which the device was told
    PRIMARY KEY (peer_id, row_id)
) WITHOUT ROWID;

-- Deletions of other devices that wait for a yes, because there were so many of them.
CREATE TABLE sync_brake (
    id INTEGER PRIMARY KEY,       -- what `storysync approve` is given
    peer_id INTEGER NOT NULL,     -- sync_peer.id they came from
    table_id INTEGER NOT NULL,    -- sync_table.id they are in
    at INTEGER NOT NULL,          -- Unix time in ms when the first had to wait
    decided_at INTEGER            -- Unix time in ms of the yes or no; NULL while it waits
);

-- The rows a brake holds: deleted by their documents, still shown.
CREATE TABLE sync_held (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id
    brake_id INTEGER NOT NULL     -- sync_brake.id
);
CREATE INDEX sync_held_brake ON sync_held (brake_id);

-- Deletions carried out for other devices within the last hour.
CREATE TABLE sync_deletion (
    peer_id INTEGER NOT NULL,     -- sync_peer.id
    table_id INTEGER NOT NULL,    -- sync_table.id
    row_id INTEGER NOT NULL,      -- sync_row.id
    at INTEGER NOT NULL,          -- Unix time in ms
    PRIMARY KEY (peer_id, table_id, row_id)
) WITHOUT ROWID;

-- Bytes from other devices that were refused, by name: the same bytes are not looked at again.
CREATE TABLE sync_quarantine (
    hash BLOB PRIMARY KEY,        -- SHA-256 of the bytes as they came
    peer_id INTEGER NOT NULL,     -- sync_peer.id that sent them first
    row_id INTEGER,               -- sync_row.id they were sent for; NULL when no such row is known
    reason TEXT NOT NULL,         -- a sentence
    judged_by TEXT NOT NULL,      -- version of storysync that refused them; a newer one may judge otherwise
    at INTEGER NOT NULL           -- Unix time in ms
);
CREATE INDEX sync_quarantine_at ON sync_quarantine (at);

-- Texts from other devices that gave way to what the app wrote here, where nobody can say whether its user had read them.
CREATE TABLE sync_notice (
    id INTEGER PRIMARY KEY,       -- what `storysync conflicts resolve` is given, behind an n
    row_id INTEGER NOT NULL,      -- sync_row.id
    column_name TEXT NOT NULL,    -- the column
    hash BLOB NOT NULL,           -- name of the change whose text gave way
    at INTEGER NOT NULL,          -- Unix time in ms when it did
    ended_at INTEGER              -- Unix time in ms when somebody took the text back, or let it go; NULL while it is told
);
CREATE UNIQUE INDEX sync_notice_text ON sync_notice (row_id, column_name, hash);
CREATE INDEX sync_notice_open ON sync_notice (at) WHERE ended_at IS NULL;

-- Why the app's table refuses a row, as SQLite put it: told with the conflict.
CREATE TABLE sync_refusal (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id
    reason TEXT NOT NULL          -- SQLite's words, which name the constraint, a column or the app's own message
);

-- Tables and columns the app calls otherwise than documents do: an update of the app renamed them, and devices that have not got it
-- yet go on writing under the old name.
CREATE TABLE sync_renamed (
    table_name TEXT NOT NULL,     -- content table; where the table itself is renamed, what it is called in the app's file now
    column_name TEXT NOT NULL,    -- what the column is called in the app's table now; empty where the table itself is renamed
    name TEXT NOT NULL,           -- what documents call the column, or the table
    taken_over INTEGER NOT NULL,  -- 1 once values that devices wrote under the new name are known under the documents' one
    PRIMARY KEY (table_name, column_name)
);

-- Storymaster's documented tables: created as documented where they are missing, adopted where they
-- are not. The app's own models declare them.
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
