-- Meeting other files: for the first time, and after one of the two was restored, copied or replaced.

-- Until something was sent, nobody knows the names of this file's rows, and they may still take those of another's.
ALTER TABLE sync_state ADD COLUMN sent_at INTEGER; -- Unix time in ms when changes were first sent to anyone; NULL until then
UPDATE sync_state SET sent_at = created_at WHERE EXISTS (SELECT 1 FROM sync_peer);

-- Another epoch of ours than a device was told last: what it knows of our log is of another life.
ALTER TABLE sync_peer ADD COLUMN told_epoch TEXT; -- hexadecimal; NULL until the two logs were compared or told whole
UPDATE sync_peer SET told_epoch = (SELECT lower(hex(epoch)) FROM sync_state) WHERE pull_cursor IS NOT NULL;

-- Why the log began another life, for people to be told.
ALTER TABLE sync_state ADD COLUMN began_by TEXT;    -- restored, copied, replaced, renamed; NULL for the first life
ALTER TABLE sync_state ADD COLUMN began_at INTEGER; -- Unix time in ms; NULL for the first life
