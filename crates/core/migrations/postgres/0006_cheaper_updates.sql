-- What a recalculation pays for each row that it rewrites.

-- It rewrites all rows of a page in one transaction. With half of the page free, the new ones fit beside the old ones,
-- and no index hears of them. Rows of pages that are full today move to half empty ones by their next recalculation.
ALTER TABLE products SET (fillfactor = 50);

-- The same ids as before. A bound within the pattern makes it ten times slower, and each write of a row checks it.
-- NOT VALID: an older database may hold others; they are skipped.
ALTER TABLE products
    DROP CONSTRAINT products_id_is_an_id,
    ADD CONSTRAINT products_id_is_an_id CHECK (id ~ '^[A-Za-z0-9._-]+$' AND length(id) <= 64) NOT VALID;
ALTER TABLE markets
    DROP CONSTRAINT markets_location_is_an_id,
    ADD CONSTRAINT markets_location_is_an_id CHECK (location ~ '^[A-Za-z0-9._-]+$' AND length(location) <= 64) NOT VALID;
