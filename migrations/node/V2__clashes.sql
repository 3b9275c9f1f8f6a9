-- What clashes, and what waits for a yes.

-- Rows that wait because another row has the same unique values: references to them show that one.
CREATE TABLE sync_stand_in (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id that waits
    stand_in INTEGER NOT NULL,    -- sync_row.id that stays
    columns TEXT NOT NULL         -- the unique columns, as a JSON array
) STRICT;
CREATE INDEX sync_stand_in_for ON sync_stand_in (stand_in);

-- The unique values waiting rows would have: a row that takes them later may be the one to wait behind.
CREATE TABLE sync_waiting_key (
    key BLOB NOT NULL,            -- 16 bytes: hash of table, unique columns and values
    row_id INTEGER NOT NULL,      -- sync_row.id that waits
    PRIMARY KEY (key, row_id)
) STRICT, WITHOUT ROWID;
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
) STRICT;
CREATE INDEX sync_clash_row ON sync_clash (row_id);

-- What devices that read plain rows were last told of each: an edit of theirs is made on top of that.
CREATE TABLE sync_served (
    peer_id INTEGER NOT NULL,     -- sync_peer.id
    row_id INTEGER NOT NULL,      -- sync_row.id
    seq INTEGER NOT NULL,         -- sync_change.seq up to which the device was told
    PRIMARY KEY (peer_id, row_id)
) STRICT, WITHOUT ROWID;

-- Deletions of other devices that wait for a yes, because there were so many of them.
CREATE TABLE sync_brake (
    id INTEGER PRIMARY KEY,       -- what `storysync approve` is given
    peer_id INTEGER NOT NULL,     -- sync_peer.id they came from
    table_id INTEGER NOT NULL,    -- sync_table.id they are in
    at INTEGER NOT NULL,          -- Unix time in ms when the first had to wait
    decided_at INTEGER            -- Unix time in ms of the yes or no; NULL while it waits
) STRICT;

-- The rows a brake holds: deleted by their documents, still shown.
CREATE TABLE sync_held (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id
    brake_id INTEGER NOT NULL     -- sync_brake.id
) STRICT;
CREATE INDEX sync_held_brake ON sync_held (brake_id);

-- Deletions carried out for other devices within the last hour.
CREATE TABLE sync_deletion (
    peer_id INTEGER NOT NULL,     -- sync_peer.id
    table_id INTEGER NOT NULL,    -- sync_table.id
    row_id INTEGER NOT NULL,      -- sync_row.id
    at INTEGER NOT NULL,          -- Unix time in ms
    PRIMARY KEY (peer_id, table_id, row_id)
) STRICT, WITHOUT ROWID;
