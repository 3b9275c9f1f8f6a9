-- Columns the app calls otherwise than documents do: an update of the app renamed them, and devices that have not got it yet go on
-- writing under the old name.
CREATE TABLE sync_renamed (
    table_name TEXT NOT NULL,     -- content table
    column_name TEXT NOT NULL,    -- what the column is called in the app's table now
    name TEXT NOT NULL,           -- what documents call it
    taken_over INTEGER NOT NULL,  -- 1 once values that devices wrote under the new name are known under the documents' one
    PRIMARY KEY (table_name, column_name)
);
