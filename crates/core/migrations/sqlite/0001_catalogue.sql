-- Amounts are in minor units (cents), multipliers in parts per million: exact integers in both databases.
CREATE TABLE products (
    id                  TEXT    NOT NULL PRIMARY KEY,
    base_price_minor    INTEGER NOT NULL CHECK (base_price_minor BETWEEN 0 AND 999999999999),
    currency            TEXT    NOT NULL DEFAULT 'USD' CHECK (length(currency) = 3),
    version             INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- What the last recalculation found: the price in the default market without membership.
    list_price_minor    INTEGER,
    list_market_version INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE markets (
    location       TEXT    NOT NULL PRIMARY KEY,
    multiplier_ppm INTEGER NOT NULL CHECK (multiplier_ppm BETWEEN 0 AND 100000000),
    version        INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1)
) STRICT, WITHOUT ROWID;

-- Every list price a product has had, and what it was computed from.
CREATE TABLE price_history (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    product_id       TEXT    NOT NULL,
    product_version  INTEGER NOT NULL,
    market_version   INTEGER NOT NULL,
    list_price_minor INTEGER NOT NULL,
    task_id          TEXT    NOT NULL,
    recorded_at_ms   INTEGER NOT NULL
) STRICT;
CREATE INDEX price_history_of_product ON price_history (product_id, id);

-- Whoever changes a price or a multiplier, by whatever means, makes a new version.
CREATE TRIGGER products_version AFTER UPDATE OF base_price_minor, currency ON products
FOR EACH ROW WHEN NEW.version <= OLD.version
BEGIN
    UPDATE products SET version = OLD.version + 1 WHERE id = NEW.id;
END;

CREATE TRIGGER markets_version AFTER UPDATE OF multiplier_ppm ON markets
FOR EACH ROW WHEN NEW.version <= OLD.version
BEGIN
    UPDATE markets SET version = OLD.version + 1 WHERE location = NEW.location;
END;
