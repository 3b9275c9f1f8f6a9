-- How many rows stand is asked with every conversation, and counting them reads as many pages as there are thousands of rows.
ALTER TABLE sync_state ADD COLUMN entities INTEGER NOT NULL DEFAULT 0; -- rows that stand in the app's tables, kept by the triggers below
UPDATE sync_state SET entities = (SELECT count(*) FROM sync_row WHERE present = 1);

CREATE TRIGGER sync_row_came AFTER INSERT ON sync_row WHEN NEW.present = 1 BEGIN
    UPDATE sync_state SET entities = entities + 1;
END;
CREATE TRIGGER sync_row_moved AFTER UPDATE OF present ON sync_row WHEN NEW.present <> OLD.present BEGIN
    UPDATE sync_state SET entities = entities + NEW.present - OLD.present;
END;
CREATE TRIGGER sync_row_went AFTER DELETE ON sync_row WHEN OLD.present = 1 BEGIN
    UPDATE sync_state SET entities = entities - 1;
END;
