-- Older changes of one row, compressed together. Nothing is thrown away: their lines in sync_change keep their place, name and
-- origin, and whoever is behind is told the same bytes as ever.
CREATE TABLE sync_pack (
    id INTEGER PRIMARY KEY,       -- named by sync_change.pack
    row_id INTEGER NOT NULL,      -- sync_row.id whose changes they are
    size INTEGER NOT NULL,        -- bytes before compressing
    bytes BLOB NOT NULL           -- zstd; of each change: seq and length in 8 bytes each, big-endian, then the change chunk
) STRICT;
CREATE INDEX sync_pack_row ON sync_pack (row_id);

ALTER TABLE sync_change ADD COLUMN pack INTEGER; -- sync_pack.id that holds the change chunk, bytes being empty; NULL while it stands here
