-- Texts from other devices that gave way to what the app wrote here, where nobody can say whether its user had read them.
CREATE TABLE sync_notice (
    id INTEGER PRIMARY KEY,       -- what `storysync conflicts resolve` is given, behind an n
    row_id INTEGER NOT NULL,      -- sync_row.id
    column_name TEXT NOT NULL,    -- the column
    hash BLOB NOT NULL,           -- name of the change whose text gave way
    at INTEGER NOT NULL,          -- Unix time in ms when it did
    ended_at INTEGER              -- Unix time in ms when somebody took the text back, or let it go; NULL while it is told
) STRICT;
CREATE UNIQUE INDEX sync_notice_text ON sync_notice (row_id, column_name, hash);
CREATE INDEX sync_notice_open ON sync_notice (at) WHERE ended_at IS NULL;
