-- Amounts are in minor units (cents), multipliers in parts per million: exact integers in both databases.
CREATE TABLE products (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    base_price_minor    BIGINT NOT NULL CHECK (base_price_minor BETWEEN 0 AND 999999999999),
    currency            TEXT   NOT NULL DEFAULT 'USD' CHECK (length(currency) = 3),
    version             BIGINT NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- What the last recalculation found: the price in the default market without membership.
    list_price_minor    BIGINT,
    list_market_version BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE markets (
    location       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    multiplier_ppm BIGINT NOT NULL CHECK (multiplier_ppm BETWEEN 0 AND 100000000),
    version        BIGINT NOT NULL DEFAULT 1 CHECK (version >= 1)
);

-- Every list price a product has had, and what it was computed from.
CREATE TABLE price_history (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id       TEXT COLLATE "C" NOT NULL,
    product_version  BIGINT NOT NULL,
    market_version   BIGINT NOT NULL,
    list_price_minor BIGINT NOT NULL,
    task_id          TEXT   NOT NULL,
    recorded_at_ms   BIGINT NOT NULL
);
CREATE INDEX price_history_of_product ON price_history (product_id, id);

-- Whoever changes a price or a multiplier, by whatever means, makes a new version.
CREATE FUNCTION next_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

CREATE TRIGGER products_version BEFORE UPDATE OF base_price_minor, currency ON products
FOR EACH ROW WHEN (NEW.version <= OLD.version) EXECUTE FUNCTION next_version();

CREATE TRIGGER markets_version BEFORE UPDATE OF multiplier_ppm ON markets
FOR EACH ROW WHEN (NEW.version <= OLD.version) EXECUTE FUNCTION next_version();
