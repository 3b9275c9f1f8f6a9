-- What one device's changes took away within the last hour: deletions, texts it blanked or cut, links it undid. Deletions alone
-- were counted before.
-- sync_deletion.share: what of the row is gone, in thousandths: 1000 where it was deleted, 0 where only a link went.
ALTER TABLE sync_deletion ADD COLUMN share INTEGER NOT NULL DEFAULT 1000;
-- sync_deletion.held: characters its texts had before the first of it; 0 where that was not counted.
ALTER TABLE sync_deletion ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
-- sync_deletion.changes: how many changes the row had before the first of it, which tell what to show while it is held; 0 where
-- that is not known.
ALTER TABLE sync_deletion ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
-- sync_held.what: deleted, cut (the row lives, and texts of it are held), unlinked (it lives, and a link to a held one is).
ALTER TABLE sync_held ADD COLUMN what TEXT NOT NULL DEFAULT 'deleted';
UPDATE sync_held SET what = 'cut' WHERE row_id IN (
    SELECT id FROM sync_row WHERE instr(differs, '"kind":"held"'));

-- When we met each device in this epoch of our log. What it brought at that first contact it had written before, and years of it:
-- that goes by what its authors claim. Everything later goes by when it came.
-- sync_peer.met_from: Unix time in ms when it first brought something; NULL until then.
ALTER TABLE sync_peer ADD COLUMN met_from INTEGER;
-- sync_peer.met_seq: where our log ended when it had told all it had then; NULL until then.
ALTER TABLE sync_peer ADD COLUMN met_seq INTEGER;
-- Nobody noted that before. The first hour of what a device brought is taken for it.
UPDATE sync_peer SET met_from = (
    SELECT min(admitted_at) FROM sync_change WHERE came_from = sync_peer.id);
UPDATE sync_peer SET met_seq = (
    SELECT max(seq) FROM sync_change WHERE came_from = sync_peer.id AND admitted_at <= sync_peer.met_from + 3600000);
