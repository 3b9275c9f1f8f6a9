-- sync_row.parked says in a word why a row waits:
--   parent    a row it needs has not come
--   name      another row has the same unique values, and stays
--   refused   the app's table refuses it, or a trigger does not let it go
-- 0.1.0 wrote sentences.
UPDATE sync_row SET parked = CASE parked
    WHEN 'waits for the row it belongs to' THEN 'parent'
    WHEN 'another row has the same unique values' THEN 'name'
    WHEN 'parent' THEN 'parent'
    WHEN 'name' THEN 'name'
    ELSE 'refused'
END WHERE parked IS NOT NULL;
