-- What a device sent itself is asked with each look at whether there is something for it: counted by an index, not by reading changes.
CREATE INDEX sync_change_origin ON sync_change (origin) WHERE origin IS NOT NULL;
