-- What the device calls itself, where the person here calls it something else; NULL where `name` is what it calls itself.
ALTER TABLE trust_device ADD COLUMN own_name TEXT;

-- Unix time in ms since when the person here has it paused: nothing is asked of it, and it is answered nothing; NULL while it is not.
ALTER TABLE trust_device ADD COLUMN paused_at INTEGER;

-- trust_event.kind says `pause`, too: that a device was paused, and that it goes on.
