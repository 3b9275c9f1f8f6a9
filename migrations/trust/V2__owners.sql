-- Whose word about other devices is carried out here: 1 for an owner. Anybody else's is a question.
ALTER TABLE trust_device ADD COLUMN is_owner INTEGER NOT NULL DEFAULT 0;

-- A device that is no owner no longer trusts another: the person here is asked.
CREATE TABLE trust_question (
    teller TEXT NOT NULL,           -- PeerId of the device that told us
    device_id TEXT NOT NULL,        -- PeerId of the device it no longer trusts
    revoked_at INTEGER NOT NULL,    -- Unix time in ms, by the teller's clock
    asked_at INTEGER NOT NULL,      -- Unix time in ms when we were told
    answered_at INTEGER,            -- Unix time in ms when the person said to keep it; NULL while it is open
    PRIMARY KEY (teller, device_id)
) STRICT, WITHOUT ROWID;

-- trust_event.kind says `owner`, too: who became one, and that a device was kept.
