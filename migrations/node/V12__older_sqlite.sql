-- The app opens this file with a SQLite of its own, which may be as old as 3.31. STRICT tables came with 3.37, and an older SQLite
-- takes a schema that holds one for damaged. What is on the disk is the same without the word, so it is taken out of the
-- schema as SQLite's documentation of ALTER TABLE describes for such changes; no row is touched. Whoever writes a table is
-- storysync alone, but for sync_outbox: there the triggers write what they are, whatever the app puts into its columns.
-- Tables of later migrations in the app's file are not STRICT either.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, ') STRICT, WITHOUT ROWID', ') WITHOUT ROWID') WHERE type = 'table' AND name LIKE 'sync\_%' ESCAPE '\';
UPDATE sqlite_schema SET sql = substr(sql, 1, length(sql) - 7) WHERE type = 'table' AND name LIKE 'sync\_%' ESCAPE '\' AND sql LIKE '%) STRICT';
PRAGMA writable_schema = RESET;

-- Making an index tells every other connection that the schema is another. An app that empties a table and fills it again asks of
-- each row whether its id was deleted, or named, before: the few such lines are found by it.
CREATE INDEX IF NOT EXISTS sync_outbox_deleted ON sync_outbox (table_name, local_id) WHERE operation = 'D';
CREATE INDEX IF NOT EXISTS sync_outbox_placed ON sync_outbox (table_name, local_id) WHERE operation = 'P';
-- Rows that were deleted and that a trigger of the app's does not let go are tried again whenever others move.
CREATE INDEX IF NOT EXISTS sync_row_kept ON sync_row (parked) WHERE parked IS NOT NULL AND present = 1;
