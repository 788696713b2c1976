-- Prices in any currency, with floor, ceiling and rounding; an edit has a revision; the history is written by triggers.
DROP TRIGGER products_insert;
DROP TRIGGER products_update;
DROP TRIGGER products_rename;
DROP TRIGGER products_delete;
DROP TRIGGER products_currency_insert;
DROP TRIGGER products_currency_update;
DROP TRIGGER markets_insert;
DROP TRIGGER markets_update;
DROP TRIGGER markets_rename;
DROP TRIGGER markets_delete;

-- All products are in one currency. Products in two break the key.
CREATE TABLE catalogue (
    only_row INTEGER NOT NULL DEFAULT 1 PRIMARY KEY CHECK (only_row = 1),
    currency TEXT    NOT NULL CHECK (currency GLOB '[A-Z][A-Z][A-Z]')
) STRICT, WITHOUT ROWID;
INSERT INTO catalogue (currency) SELECT DISTINCT currency FROM products;

-- The list price was the price in the default market. It is what a recalculation makes of the base price now, before
-- market and membership; NULL means the base price.
ALTER TABLE products DROP COLUMN currency;
ALTER TABLE products DROP COLUMN list_price_minor;
ALTER TABLE products DROP COLUMN list_market_version;
ALTER TABLE products ADD COLUMN list_price_minor INTEGER CHECK (list_price_minor BETWEEN 0 AND 999999999999);
ALTER TABLE products ADD COLUMN cost_minor INTEGER CHECK (cost_minor BETWEEN 0 AND 999999999999);
ALTER TABLE products ADD COLUMN floor_minor INTEGER CHECK (floor_minor BETWEEN 0 AND 999999999999);
ALTER TABLE products ADD COLUMN ceiling_minor INTEGER CHECK (ceiling_minor BETWEEN 0 AND 999999999999);
ALTER TABLE products ADD COLUMN category TEXT CHECK (length(category) BETWEEN 1 AND 64);
-- A JSON array of texts.
ALTER TABLE products ADD COLUMN tags TEXT NOT NULL DEFAULT '[]'
    CHECK (length(tags) <= 2048 AND json_valid(tags) AND json_type(tags) = 'array');
-- Version of the last edit: of any change but that of the list price.
ALTER TABLE products ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE products SET revision = version;
CREATE INDEX products_by_category ON products (category, id) WHERE category IS NOT NULL;

ALTER TABLE markets ADD COLUMN member_discount_ppm INTEGER NOT NULL DEFAULT 50000
    CHECK (member_discount_ppm BETWEEN 0 AND 1000000);
-- NULL is the currency of the catalogue.
ALTER TABLE markets ADD COLUMN currency TEXT CHECK (currency GLOB '[A-Z][A-Z][A-Z]');
-- Units of the market's currency for one of the catalogue's, times 10^12; at most nine digits.
ALTER TABLE markets ADD COLUMN exchange_rate_e12 INTEGER CHECK (
    exchange_rate_e12 BETWEEN 1 AND 1000000000000000000
    AND (exchange_rate_e12 < 1000000000 OR exchange_rate_e12 % 1000 = 0)
    AND (exchange_rate_e12 < 1000000000000 OR exchange_rate_e12 % 1000000 = 0)
    AND (exchange_rate_e12 < 1000000000000000 OR exchange_rate_e12 % 1000000000 = 0)
);
-- Prices are the ending and multiples of the increment, in minor units of the market's currency.
ALTER TABLE markets ADD COLUMN increment_minor INTEGER NOT NULL DEFAULT 1 CHECK (increment_minor BETWEEN 1 AND 999999);
ALTER TABLE markets ADD COLUMN rounding_mode TEXT NOT NULL DEFAULT 'half-even'
    CHECK (rounding_mode IN ('half-even', 'up', 'down'));
ALTER TABLE markets ADD COLUMN ending_minor INTEGER CHECK (ending_minor >= 0 AND ending_minor < increment_minor);
ALTER TABLE markets ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
UPDATE markets SET revision = version;

-- A recalculation leaves one row for all products from `id` to `last_id` that it changed.
ALTER TABLE pending_changes ADD COLUMN last_id TEXT;

-- Who makes a change: set and cleared within a transaction, which is the only one that writes. NULL is a change by hand.
CREATE TABLE change_origin (
    only_row     INTEGER NOT NULL DEFAULT 1 PRIMARY KEY CHECK (only_row = 1),
    changed_by   TEXT,
    trace_id     TEXT,
    -- Whether list prices are recorded: the transaction takes their version itself, and leaves one pending row for all.
    is_recording INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
INSERT INTO change_origin DEFAULT VALUES;

-- What a product's prices are made of, before and after each change.
CREATE TABLE product_history (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id           TEXT    NOT NULL,
    version              INTEGER NOT NULL,
    -- created, edited, recalculated, deleted; market_price: the list prices are those in the default market, recorded
    -- by an older build.
    change               TEXT    NOT NULL,
    changed_at_ms        INTEGER NOT NULL,
    -- key:NAME, anonymous, task:ID, cli:USER, or sql for a change by hand.
    changed_by           TEXT    NOT NULL,
    trace_id             TEXT,
    old_base_price_minor INTEGER,
    base_price_minor     INTEGER,
    old_list_price_minor INTEGER,
    list_price_minor     INTEGER,
    old_floor_minor      INTEGER,
    floor_minor          INTEGER,
    old_ceiling_minor    INTEGER,
    ceiling_minor        INTEGER
) STRICT;
INSERT INTO product_history
    (product_id, version, change, changed_at_ms, changed_by, old_list_price_minor, list_price_minor)
SELECT product_id, product_version, 'market_price', recorded_at_ms, 'task:' || task_id, old_list_price_minor, list_price_minor
FROM price_history ORDER BY id;
DROP TABLE price_history;
CREATE INDEX product_history_of_product ON product_history (product_id, id);
CREATE INDEX product_history_by_time ON product_history (changed_at_ms);

-- A market's terms, before and after each change.
CREATE TABLE market_history (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    location      TEXT    NOT NULL,
    version       INTEGER NOT NULL,
    change        TEXT    NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    changed_by    TEXT    NOT NULL,
    trace_id      TEXT,
    -- JSON objects with the columns of `markets`.
    old_terms     TEXT,
    terms         TEXT
) STRICT;
CREATE INDEX market_history_of_market ON market_history (location, id);
CREATE INDEX market_history_by_time ON market_history (changed_at_ms);

-- What each row of the history says of now.
CREATE VIEW change_now AS
SELECT (SELECT last_value FROM catalogue_version) AS version, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS at_ms,
    coalesce(changed_by, 'sql') AS changed_by, trace_id
FROM change_origin;

CREATE TRIGGER products_insert AFTER INSERT ON products
BEGIN
    INSERT INTO changed_keys VALUES ('product', NEW.id);
    UPDATE products SET version = (SELECT last_value FROM catalogue_version),
        revision = (SELECT last_value FROM catalogue_version)
    WHERE id = NEW.id;
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        base_price_minor, list_price_minor, floor_minor, ceiling_minor)
    SELECT NEW.id, version, 'created', at_ms, changed_by, trace_id,
        NEW.base_price_minor, NEW.list_price_minor, NEW.floor_minor, NEW.ceiling_minor
    FROM change_now;
END;

-- A version or revision that is the last one given was set by a trigger.
CREATE TRIGGER products_update AFTER UPDATE ON products
WHEN NOT (SELECT is_recording FROM change_origin) AND (
    NEW.id IS NOT OLD.id OR NEW.base_price_minor IS NOT OLD.base_price_minor OR NEW.cost_minor IS NOT OLD.cost_minor
    OR NEW.floor_minor IS NOT OLD.floor_minor OR NEW.ceiling_minor IS NOT OLD.ceiling_minor
    OR NEW.category IS NOT OLD.category OR NEW.tags IS NOT OLD.tags OR NEW.list_price_minor IS NOT OLD.list_price_minor
    OR (NEW.version IS NOT OLD.version AND NEW.version IS NOT (SELECT last_value FROM catalogue_version))
    OR (NEW.revision IS NOT OLD.revision AND NEW.revision IS NOT (SELECT last_value FROM catalogue_version)))
BEGIN
    INSERT INTO changed_keys VALUES ('product', NEW.id);
    -- The list price was made of the old base price.
    UPDATE products SET version = (SELECT last_value FROM catalogue_version),
        revision = CASE WHEN NEW.id IS NOT OLD.id OR NEW.base_price_minor IS NOT OLD.base_price_minor
            OR NEW.cost_minor IS NOT OLD.cost_minor OR NEW.floor_minor IS NOT OLD.floor_minor
            OR NEW.ceiling_minor IS NOT OLD.ceiling_minor OR NEW.category IS NOT OLD.category OR NEW.tags IS NOT OLD.tags
            THEN (SELECT last_value FROM catalogue_version) ELSE OLD.revision END,
        list_price_minor = CASE WHEN NEW.base_price_minor IS OLD.base_price_minor THEN NEW.list_price_minor END
    WHERE id = NEW.id;
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        old_base_price_minor, base_price_minor, old_list_price_minor, list_price_minor,
        old_floor_minor, floor_minor, old_ceiling_minor, ceiling_minor)
    SELECT NEW.id, products.version, 'edited', at_ms, changed_by, trace_id,
        OLD.base_price_minor, products.base_price_minor, OLD.list_price_minor, products.list_price_minor,
        OLD.floor_minor, products.floor_minor, OLD.ceiling_minor, products.ceiling_minor
    FROM products, change_now WHERE products.id = NEW.id AND NEW.id IS OLD.id AND (
        NEW.base_price_minor IS NOT OLD.base_price_minor OR NEW.list_price_minor IS NOT OLD.list_price_minor
        OR NEW.floor_minor IS NOT OLD.floor_minor OR NEW.ceiling_minor IS NOT OLD.ceiling_minor);
    -- A row whose id has changed is one that was deleted and one that was created.
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        base_price_minor, list_price_minor, floor_minor, ceiling_minor)
    SELECT NEW.id, products.version, 'created', at_ms, changed_by, trace_id,
        products.base_price_minor, products.list_price_minor, products.floor_minor, products.ceiling_minor
    FROM products, change_now WHERE products.id = NEW.id AND NEW.id IS NOT OLD.id;
END;

CREATE TRIGGER products_rename AFTER UPDATE OF id ON products WHEN NEW.id IS NOT OLD.id
BEGIN
    INSERT INTO changed_keys VALUES ('product', OLD.id);
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        old_base_price_minor, old_list_price_minor, old_floor_minor, old_ceiling_minor)
    SELECT OLD.id, version, 'deleted', at_ms, changed_by, trace_id,
        OLD.base_price_minor, OLD.list_price_minor, OLD.floor_minor, OLD.ceiling_minor
    FROM change_now;
END;

CREATE TRIGGER products_recalculate AFTER UPDATE OF list_price_minor ON products
WHEN (SELECT is_recording FROM change_origin) AND NEW.list_price_minor IS NOT OLD.list_price_minor
BEGIN
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        old_base_price_minor, base_price_minor, old_list_price_minor, list_price_minor,
        old_floor_minor, floor_minor, old_ceiling_minor, ceiling_minor)
    SELECT NEW.id, NEW.version, 'recalculated', at_ms, changed_by, trace_id,
        OLD.base_price_minor, NEW.base_price_minor, OLD.list_price_minor, NEW.list_price_minor,
        OLD.floor_minor, NEW.floor_minor, OLD.ceiling_minor, NEW.ceiling_minor
    FROM change_now;
END;

CREATE TRIGGER products_delete AFTER DELETE ON products
BEGIN
    INSERT INTO changed_keys VALUES ('product', OLD.id);
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        old_base_price_minor, old_list_price_minor, old_floor_minor, old_ceiling_minor)
    SELECT OLD.id, version, 'deleted', at_ms, changed_by, trace_id,
        OLD.base_price_minor, OLD.list_price_minor, OLD.floor_minor, OLD.ceiling_minor
    FROM change_now;
END;

CREATE TRIGGER markets_insert AFTER INSERT ON markets
BEGIN
    INSERT INTO changed_keys VALUES ('market', NEW.location);
    UPDATE markets SET version = (SELECT last_value FROM catalogue_version),
        revision = (SELECT last_value FROM catalogue_version)
    WHERE location = NEW.location;
    INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, terms)
    SELECT NEW.location, version, 'created', at_ms, changed_by, trace_id,
        json_object('multiplier_ppm', NEW.multiplier_ppm, 'member_discount_ppm', NEW.member_discount_ppm,
        'currency', NEW.currency, 'exchange_rate_e12', NEW.exchange_rate_e12, 'increment_minor', NEW.increment_minor,
        'rounding_mode', NEW.rounding_mode, 'ending_minor', NEW.ending_minor)
    FROM change_now;
END;

-- A version or revision that is the last one given was set by a trigger.
CREATE TRIGGER markets_update AFTER UPDATE ON markets
WHEN NEW.location IS NOT OLD.location OR NEW.multiplier_ppm IS NOT OLD.multiplier_ppm
    OR NEW.member_discount_ppm IS NOT OLD.member_discount_ppm OR NEW.currency IS NOT OLD.currency
    OR NEW.exchange_rate_e12 IS NOT OLD.exchange_rate_e12 OR NEW.increment_minor IS NOT OLD.increment_minor
    OR NEW.rounding_mode IS NOT OLD.rounding_mode OR NEW.ending_minor IS NOT OLD.ending_minor
    OR (NEW.version IS NOT OLD.version AND NEW.version IS NOT (SELECT last_value FROM catalogue_version))
    OR (NEW.revision IS NOT OLD.revision AND NEW.revision IS NOT (SELECT last_value FROM catalogue_version))
BEGIN
    INSERT INTO changed_keys VALUES ('market', NEW.location);
    UPDATE markets SET version = (SELECT last_value FROM catalogue_version),
        revision = CASE WHEN NEW.location IS NOT OLD.location OR json_object('multiplier_ppm', NEW.multiplier_ppm, 'member_discount_ppm', NEW.member_discount_ppm,
            'currency', NEW.currency, 'exchange_rate_e12', NEW.exchange_rate_e12, 'increment_minor', NEW.increment_minor,
            'rounding_mode', NEW.rounding_mode, 'ending_minor', NEW.ending_minor)
            IS NOT json_object('multiplier_ppm', OLD.multiplier_ppm, 'member_discount_ppm', OLD.member_discount_ppm,
            'currency', OLD.currency, 'exchange_rate_e12', OLD.exchange_rate_e12, 'increment_minor', OLD.increment_minor,
            'rounding_mode', OLD.rounding_mode, 'ending_minor', OLD.ending_minor)
            THEN (SELECT last_value FROM catalogue_version) ELSE OLD.revision END
    WHERE location = NEW.location;
    INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms, terms)
    SELECT NEW.location, version, iif(NEW.location IS OLD.location, 'edited', 'created'), at_ms, changed_by, trace_id,
        CASE WHEN NEW.location IS OLD.location THEN json_object('multiplier_ppm', OLD.multiplier_ppm, 'member_discount_ppm', OLD.member_discount_ppm,
            'currency', OLD.currency, 'exchange_rate_e12', OLD.exchange_rate_e12, 'increment_minor', OLD.increment_minor,
            'rounding_mode', OLD.rounding_mode, 'ending_minor', OLD.ending_minor) END,
        json_object('multiplier_ppm', NEW.multiplier_ppm, 'member_discount_ppm', NEW.member_discount_ppm,
        'currency', NEW.currency, 'exchange_rate_e12', NEW.exchange_rate_e12, 'increment_minor', NEW.increment_minor,
        'rounding_mode', NEW.rounding_mode, 'ending_minor', NEW.ending_minor)
    FROM change_now
    WHERE NEW.location IS NOT OLD.location OR json_object('multiplier_ppm', NEW.multiplier_ppm, 'member_discount_ppm', NEW.member_discount_ppm,
            'currency', NEW.currency, 'exchange_rate_e12', NEW.exchange_rate_e12, 'increment_minor', NEW.increment_minor,
            'rounding_mode', NEW.rounding_mode, 'ending_minor', NEW.ending_minor)
        IS NOT json_object('multiplier_ppm', OLD.multiplier_ppm, 'member_discount_ppm', OLD.member_discount_ppm,
            'currency', OLD.currency, 'exchange_rate_e12', OLD.exchange_rate_e12, 'increment_minor', OLD.increment_minor,
            'rounding_mode', OLD.rounding_mode, 'ending_minor', OLD.ending_minor);
END;

CREATE TRIGGER markets_rename AFTER UPDATE OF location ON markets WHEN NEW.location IS NOT OLD.location
BEGIN
    INSERT INTO changed_keys VALUES ('market', OLD.location);
    INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms)
    SELECT OLD.location, version, 'deleted', at_ms, changed_by, trace_id,
        json_object('multiplier_ppm', OLD.multiplier_ppm, 'member_discount_ppm', OLD.member_discount_ppm,
        'currency', OLD.currency, 'exchange_rate_e12', OLD.exchange_rate_e12, 'increment_minor', OLD.increment_minor,
        'rounding_mode', OLD.rounding_mode, 'ending_minor', OLD.ending_minor)
    FROM change_now;
END;

CREATE TRIGGER markets_delete AFTER DELETE ON markets
BEGIN
    INSERT INTO changed_keys VALUES ('market', OLD.location);
    INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms)
    SELECT OLD.location, version, 'deleted', at_ms, changed_by, trace_id,
        json_object('multiplier_ppm', OLD.multiplier_ppm, 'member_discount_ppm', OLD.member_discount_ppm,
        'currency', OLD.currency, 'exchange_rate_e12', OLD.exchange_rate_e12, 'increment_minor', OLD.increment_minor,
        'rounding_mode', OLD.rounding_mode, 'ending_minor', OLD.ending_minor)
    FROM change_now;
END;
