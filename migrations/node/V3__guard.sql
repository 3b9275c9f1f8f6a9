-- What was not let in.

-- Bytes from other devices that were refused, by name: the same bytes are not looked at again.
CREATE TABLE sync_quarantine (
    hash BLOB PRIMARY KEY,        -- SHA-256 of the bytes as they came
    peer_id INTEGER NOT NULL,     -- sync_peer.id that sent them first
    row_id INTEGER,               -- sync_row.id they were sent for; NULL when no such row is known
    reason TEXT NOT NULL,         -- a sentence
    judged_by TEXT NOT NULL,      -- version of storysync that refused them; a newer one may judge otherwise
    at INTEGER NOT NULL           -- Unix time in ms
) STRICT;
CREATE INDEX sync_quarantine_at ON sync_quarantine (at);

-- How much of one device's is waiting is asked with each change that has to wait.
CREATE INDEX sync_pending_origin ON sync_pending (origin);

-- Unlike `origin`, never forgotten: who sent two changes under one name is known by it.
ALTER TABLE sync_change ADD COLUMN came_from INTEGER; -- sync_peer.id that sent it to us; NULL when written here
UPDATE sync_change SET came_from = origin;

-- Why rows wait is asked with each row that is written: those that wait for something else must cost nothing.
DROP INDEX sync_row_parked;
CREATE INDEX sync_row_parked ON sync_row (table_id, parked) WHERE parked IS NOT NULL;
