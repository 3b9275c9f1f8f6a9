-- What a device sent itself is asked with each look at whether there is something for it: counted by an index, not by reading changes.
CREATE INDEX sync_change_origin ON sync_change (origin) WHERE origin IS NOT NULL;

-- Eight bytes of a hash find a change as well as 32, in a third of the pages that a received page of changes has to touch. Whoever
-- adds a change looks first whether it is there.
DROP INDEX sync_change_hash;
CREATE INDEX sync_change_hash ON sync_change (substr(hash, 1, 8));
