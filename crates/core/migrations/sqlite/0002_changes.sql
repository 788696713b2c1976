-- Every change of what a read sees takes a version from one sequence and leaves its key in `pending_changes`,
-- whoever makes it. So versions only grow, also over deletion and re-creation, and no change is missed.
CREATE TABLE catalogue_version (last_value INTEGER NOT NULL) STRICT;
INSERT INTO catalogue_version
SELECT max(1, coalesce((SELECT max(version) FROM products), 1), coalesce((SELECT max(version) FROM markets), 1));

CREATE TABLE pending_changes (
    kind          TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    -- Version of the latest change of this key.
    version       INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    -- The Redis (its master_replid) whose cache holds this version, and since when; '' while none does.
    stored_on     TEXT    NOT NULL DEFAULT '',
    stored_at_ms  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_changes_to_store ON pending_changes (version) WHERE stored_on = '';
CREATE INDEX pending_changes_stored ON pending_changes (stored_on, stored_at_ms) WHERE stored_on <> '';

DROP TRIGGER products_version;
DROP TRIGGER markets_version;

-- Inserting a key here takes the next version and notes the key as pending.
CREATE VIEW changed_keys AS SELECT kind, id FROM pending_changes;
CREATE TRIGGER changed_keys_insert INSTEAD OF INSERT ON changed_keys
BEGIN
    UPDATE catalogue_version SET last_value = last_value + 1;
    INSERT INTO pending_changes (kind, id, version, changed_at_ms)
    VALUES (NEW.kind, NEW.id, (SELECT last_value FROM catalogue_version), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
    ON CONFLICT (kind, id) DO UPDATE
    SET version = excluded.version, changed_at_ms = excluded.changed_at_ms, stored_on = '';
END;

CREATE TRIGGER products_insert AFTER INSERT ON products
BEGIN
    INSERT INTO changed_keys VALUES ('product', NEW.id);
    UPDATE products SET version = (SELECT last_value FROM catalogue_version) WHERE id = NEW.id;
END;

-- A version that is the last one given was set by a trigger.
CREATE TRIGGER products_update AFTER UPDATE OF id, base_price_minor, currency, version ON products
WHEN NEW.id IS NOT OLD.id OR NEW.base_price_minor IS NOT OLD.base_price_minor OR NEW.currency IS NOT OLD.currency
    OR (NEW.version IS NOT OLD.version AND NEW.version IS NOT (SELECT last_value FROM catalogue_version))
BEGIN
    INSERT INTO changed_keys VALUES ('product', NEW.id);
    UPDATE products SET version = (SELECT last_value FROM catalogue_version) WHERE id = NEW.id;
END;

CREATE TRIGGER products_rename AFTER UPDATE OF id ON products WHEN NEW.id IS NOT OLD.id
BEGIN
    INSERT INTO changed_keys VALUES ('product', OLD.id);
END;

CREATE TRIGGER products_delete AFTER DELETE ON products
BEGIN
    INSERT INTO changed_keys VALUES ('product', OLD.id);
END;

CREATE TRIGGER markets_insert AFTER INSERT ON markets
BEGIN
    INSERT INTO changed_keys VALUES ('market', NEW.location);
    UPDATE markets SET version = (SELECT last_value FROM catalogue_version) WHERE location = NEW.location;
END;

-- A version that is the last one given was set by a trigger.
CREATE TRIGGER markets_update AFTER UPDATE OF location, multiplier_ppm, version ON markets
WHEN NEW.location IS NOT OLD.location OR NEW.multiplier_ppm IS NOT OLD.multiplier_ppm
    OR (NEW.version IS NOT OLD.version AND NEW.version IS NOT (SELECT last_value FROM catalogue_version))
BEGIN
    INSERT INTO changed_keys VALUES ('market', NEW.location);
    UPDATE markets SET version = (SELECT last_value FROM catalogue_version) WHERE location = NEW.location;
END;

CREATE TRIGGER markets_rename AFTER UPDATE OF location ON markets WHEN NEW.location IS NOT OLD.location
BEGIN
    INSERT INTO changed_keys VALUES ('market', OLD.location);
END;

CREATE TRIGGER markets_delete AFTER DELETE ON markets
BEGIN
    INSERT INTO changed_keys VALUES ('market', OLD.location);
END;

-- Rows that no price can be made of are refused. An older database may hold some; they are skipped.
CREATE TRIGGER products_id_insert BEFORE INSERT ON products
WHEN length(NEW.id) NOT BETWEEN 1 AND 64 OR NEW.id GLOB '*[^A-Za-z0-9._-]*'
BEGIN
    SELECT RAISE(ABORT, 'a product id has 1 to 64 of the characters A-Z, a-z, 0-9, ''.'', ''_'', ''-''');
END;

CREATE TRIGGER products_id_update BEFORE UPDATE OF id ON products
WHEN length(NEW.id) NOT BETWEEN 1 AND 64 OR NEW.id GLOB '*[^A-Za-z0-9._-]*'
BEGIN
    SELECT RAISE(ABORT, 'a product id has 1 to 64 of the characters A-Z, a-z, 0-9, ''.'', ''_'', ''-''');
END;

CREATE TRIGGER products_currency_insert BEFORE INSERT ON products
WHEN NEW.currency NOT GLOB '[A-Z][A-Z][A-Z]'
BEGIN
    SELECT RAISE(ABORT, 'a currency is three capital letters');
END;

CREATE TRIGGER products_currency_update BEFORE UPDATE OF currency ON products
WHEN NEW.currency NOT GLOB '[A-Z][A-Z][A-Z]'
BEGIN
    SELECT RAISE(ABORT, 'a currency is three capital letters');
END;

CREATE TRIGGER markets_location_insert BEFORE INSERT ON markets
WHEN length(NEW.location) NOT BETWEEN 1 AND 64 OR NEW.location GLOB '*[^A-Za-z0-9._-]*'
BEGIN
    SELECT RAISE(ABORT, 'a location has 1 to 64 of the characters A-Z, a-z, 0-9, ''.'', ''_'', ''-''');
END;

CREATE TRIGGER markets_location_update BEFORE UPDATE OF location ON markets
WHEN length(NEW.location) NOT BETWEEN 1 AND 64 OR NEW.location GLOB '*[^A-Za-z0-9._-]*'
BEGIN
    SELECT RAISE(ABORT, 'a location has 1 to 64 of the characters A-Z, a-z, 0-9, ''.'', ''_'', ''-''');
END;

-- The history keeps the price before each change as well, and is pruned by time.
ALTER TABLE price_history ADD COLUMN old_list_price_minor INTEGER;
CREATE INDEX price_history_by_time ON price_history (recorded_at_ms);
