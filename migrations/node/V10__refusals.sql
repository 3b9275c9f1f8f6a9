-- Why the app's table refuses a row, as SQLite put it: told with the conflict.
CREATE TABLE sync_refusal (
    row_id INTEGER PRIMARY KEY,   -- sync_row.id
    reason TEXT NOT NULL          -- SQLite's words, which name the constraint, a column or the app's own message
) STRICT;
