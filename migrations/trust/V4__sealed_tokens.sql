-- Whether the device reads a sealed token (1): it said so when it was paired, or answered to one, or
-- sent one. Then a token never goes to it in the clear again.
ALTER TABLE trust_device ADD COLUMN reads_sealed_token INTEGER NOT NULL DEFAULT 0;
