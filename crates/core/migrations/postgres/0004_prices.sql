-- Prices in any currency, with floor, ceiling and rounding; an edit has a revision; the history is written by triggers.
LOCK TABLE products, markets IN ACCESS EXCLUSIVE MODE;
DROP TRIGGER products_change ON products;
DROP TRIGGER products_update ON products;
DROP TRIGGER products_truncate ON products;
DROP TRIGGER products_notify ON products;
DROP TRIGGER markets_change ON markets;
DROP TRIGGER markets_update ON markets;
DROP TRIGGER markets_truncate ON markets;
DROP TRIGGER markets_notify ON markets;

-- All products are in one currency. Products in two break the key.
CREATE TABLE catalogue (
    only_row BOOLEAN NOT NULL DEFAULT TRUE PRIMARY KEY CHECK (only_row),
    currency TEXT    NOT NULL CHECK (currency COLLATE "C" ~ '^[A-Z]{3}$')
);
INSERT INTO catalogue (currency) SELECT DISTINCT currency FROM products;

-- The list price was the price in the default market. It is what a recalculation makes of the base price now, before
-- market and membership; NULL means the base price.
ALTER TABLE products
    DROP COLUMN currency,
    DROP COLUMN list_price_minor,
    DROP COLUMN list_market_version,
    ADD COLUMN list_price_minor BIGINT CHECK (list_price_minor BETWEEN 0 AND 999999999999),
    ADD COLUMN cost_minor BIGINT CHECK (cost_minor BETWEEN 0 AND 999999999999),
    ADD COLUMN floor_minor BIGINT CHECK (floor_minor BETWEEN 0 AND 999999999999),
    ADD COLUMN ceiling_minor BIGINT CHECK (ceiling_minor BETWEEN 0 AND 999999999999),
    ADD COLUMN category TEXT COLLATE "C" CHECK (length(category) BETWEEN 1 AND 64),
    -- A JSON array of texts.
    ADD COLUMN tags TEXT NOT NULL DEFAULT '[]' CHECK (length(tags) <= 2048 AND jsonb_typeof(tags::jsonb) = 'array'),
    -- Version of the last edit: of any change but that of the list price.
    ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE products SET revision = version;
CREATE INDEX products_by_category ON products (category, id) WHERE category IS NOT NULL;

ALTER TABLE markets
    ADD COLUMN member_discount_ppm BIGINT NOT NULL DEFAULT 50000 CHECK (member_discount_ppm BETWEEN 0 AND 1000000),
    -- NULL is the currency of the catalogue.
    ADD COLUMN currency TEXT CHECK (currency COLLATE "C" ~ '^[A-Z]{3}$'),
    -- Units of the market's currency for one of the catalogue's, times 10^12; at most nine digits.
    ADD COLUMN exchange_rate_e12 BIGINT CHECK (
        exchange_rate_e12 BETWEEN 1 AND 1000000000000000000
        AND (exchange_rate_e12 < 1000000000 OR exchange_rate_e12 % 1000 = 0)
        AND (exchange_rate_e12 < 1000000000000 OR exchange_rate_e12 % 1000000 = 0)
        AND (exchange_rate_e12 < 1000000000000000 OR exchange_rate_e12 % 1000000000 = 0)
    ),
    -- Prices are the ending and multiples of the increment, in minor units of the market's currency.
    ADD COLUMN increment_minor BIGINT NOT NULL DEFAULT 1 CHECK (increment_minor BETWEEN 1 AND 999999),
    ADD COLUMN rounding_mode TEXT NOT NULL DEFAULT 'half-even' CHECK (rounding_mode IN ('half-even', 'up', 'down')),
    ADD COLUMN ending_minor BIGINT CHECK (ending_minor >= 0),
    ADD CONSTRAINT markets_ending_is_less_than_the_increment CHECK (ending_minor < increment_minor),
    ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE markets SET revision = version;

-- A recalculation leaves one row for all products from `id` to `last_id` that it changed.
ALTER TABLE pending_changes ADD COLUMN last_id TEXT COLLATE "C";

-- What a product's prices are made of, before and after each change.
CREATE TABLE product_history (
    id                   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    product_id           TEXT COLLATE "C" NOT NULL,
    version              BIGINT NOT NULL,
    -- created, edited, recalculated, deleted; market_price: the list prices are those in the default market, recorded
    -- by an older build.
    change               TEXT   NOT NULL,
    changed_at_ms        BIGINT NOT NULL,
    -- key:NAME, anonymous, task:ID, cli:USER, or sql:ROLE for a change by hand.
    changed_by           TEXT   NOT NULL,
    trace_id             TEXT,
    old_base_price_minor BIGINT,
    base_price_minor     BIGINT,
    old_list_price_minor BIGINT,
    list_price_minor     BIGINT,
    old_floor_minor      BIGINT,
    floor_minor          BIGINT,
    old_ceiling_minor    BIGINT,
    ceiling_minor        BIGINT
);
INSERT INTO product_history
    (product_id, version, change, changed_at_ms, changed_by, old_list_price_minor, list_price_minor)
SELECT product_id, product_version, 'market_price', recorded_at_ms, 'task:' || task_id, old_list_price_minor, list_price_minor
FROM price_history ORDER BY id;
DROP TABLE price_history;
CREATE INDEX product_history_of_product ON product_history (product_id, id);
CREATE INDEX product_history_by_time ON product_history (changed_at_ms);

-- A market's terms, before and after each change.
CREATE TABLE market_history (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    location      TEXT COLLATE "C" NOT NULL,
    version       BIGINT NOT NULL,
    change        TEXT   NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    changed_by    TEXT   NOT NULL,
    trace_id      TEXT,
    -- JSON objects with the columns of `markets`.
    old_terms     TEXT,
    terms         TEXT
);
CREATE INDEX market_history_of_market ON market_history (location, id);
CREATE INDEX market_history_by_time ON market_history (changed_at_ms);

CREATE FUNCTION changed_now() RETURNS BIGINT LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT;

-- Who makes a change, as the transaction says.
CREATE FUNCTION changed_by() RETURNS TEXT LANGUAGE sql STABLE
RETURN coalesce(nullif(current_setting('pricing.changed_by', TRUE), ''), 'sql:' || session_user);

CREATE FUNCTION changed_in_trace() RETURNS TEXT LANGUAGE sql STABLE
RETURN nullif(current_setting('pricing.trace_id', TRUE), '');

-- Whether the transaction records list prices: it takes their versions itself, and leaves one pending row for all.
CREATE FUNCTION records_list_prices() RETURNS BOOLEAN LANGUAGE sql STABLE
RETURN coalesce(current_setting('pricing.recording', TRUE), '') = 'on';

CREATE OR REPLACE FUNCTION record_product_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM record_change('product', OLD.id);
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
        PERFORM record_change('product', OLD.id);
    END IF;
    NEW.version := record_change('product', NEW.id);
    IF TG_OP = 'INSERT' THEN
        NEW.revision := NEW.version;
        RETURN NEW;
    END IF;
    NEW.revision := OLD.revision;
    IF (OLD.id, OLD.base_price_minor, OLD.cost_minor, OLD.floor_minor, OLD.ceiling_minor, OLD.category, OLD.tags)
        IS DISTINCT FROM
        (NEW.id, NEW.base_price_minor, NEW.cost_minor, NEW.floor_minor, NEW.ceiling_minor, NEW.category, NEW.tags)
    THEN
        NEW.revision := NEW.version;
    END IF;
    -- The list price was made of the old base price.
    IF OLD.base_price_minor <> NEW.base_price_minor THEN
        NEW.list_price_minor := NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION market_terms(market markets) RETURNS TEXT LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object(
    'multiplier_ppm', market.multiplier_ppm,
    'member_discount_ppm', market.member_discount_ppm,
    'currency', market.currency,
    'exchange_rate_e12', market.exchange_rate_e12,
    'increment_minor', market.increment_minor,
    'rounding_mode', market.rounding_mode,
    'ending_minor', market.ending_minor
)::TEXT;

CREATE OR REPLACE FUNCTION record_market_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM record_change('market', OLD.location);
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.location <> NEW.location THEN
        PERFORM record_change('market', OLD.location);
    END IF;
    NEW.version := record_change('market', NEW.location);
    NEW.revision := NEW.version;
    IF TG_OP = 'UPDATE' AND OLD.location = NEW.location AND market_terms(OLD) = market_terms(NEW) THEN
        NEW.revision := OLD.revision;
    END IF;
    RETURN NEW;
END $$;

-- The history is written once for each statement. Rows before and after it are joined by a hash: there is no index.
CREATE FUNCTION record_product_history() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = on SET enable_nestloop = off SET enable_mergejoin = off AS $$
DECLARE
    now_ms BIGINT := changed_now();
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
            base_price_minor, list_price_minor, floor_minor, ceiling_minor)
        SELECT id, version, 'created', now_ms, changed_by(), changed_in_trace(),
            base_price_minor, list_price_minor, floor_minor, ceiling_minor
        FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
            old_base_price_minor, old_list_price_minor, old_floor_minor, old_ceiling_minor)
        SELECT old_rows.id,
            (SELECT version FROM pending_changes WHERE kind = 'product' AND pending_changes.id = old_rows.id),
            'deleted', now_ms, changed_by(), changed_in_trace(),
            base_price_minor, list_price_minor, floor_minor, ceiling_minor
        FROM old_rows;
    ELSE
        -- A row whose id has changed is one that was deleted and one that was created.
        INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
            old_base_price_minor, base_price_minor, old_list_price_minor, list_price_minor,
            old_floor_minor, floor_minor, old_ceiling_minor, ceiling_minor)
        SELECT coalesce(new_rows.id, old_rows.id),
            CASE WHEN new_rows.id IS NULL
                THEN (SELECT version FROM pending_changes WHERE kind = 'product' AND id = old_rows.id)
                ELSE new_rows.version
            END,
            CASE
                WHEN old_rows.id IS NULL THEN 'created'
                WHEN new_rows.id IS NULL THEN 'deleted'
                WHEN records_list_prices() THEN 'recalculated'
                ELSE 'edited'
            END,
            now_ms, changed_by(), changed_in_trace(),
            old_rows.base_price_minor, new_rows.base_price_minor, old_rows.list_price_minor, new_rows.list_price_minor,
            old_rows.floor_minor, new_rows.floor_minor, old_rows.ceiling_minor, new_rows.ceiling_minor
        FROM old_rows FULL JOIN new_rows ON old_rows.id = new_rows.id
        WHERE (old_rows.id, old_rows.base_price_minor, old_rows.list_price_minor, old_rows.floor_minor, old_rows.ceiling_minor)
            IS DISTINCT FROM
            (new_rows.id, new_rows.base_price_minor, new_rows.list_price_minor, new_rows.floor_minor, new_rows.ceiling_minor);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION record_market_history() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_renamed BOOLEAN := TG_OP = 'UPDATE' AND OLD.location <> NEW.location;
BEGIN
    IF TG_OP = 'DELETE' OR is_renamed THEN
        INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms)
        SELECT OLD.location, version, 'deleted', changed_now(), changed_by(), changed_in_trace(), market_terms(OLD)
        FROM pending_changes WHERE kind = 'market' AND id = OLD.location;
    END IF;
    IF TG_OP = 'INSERT' OR is_renamed THEN
        INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, terms)
        VALUES (NEW.location, NEW.version, 'created', changed_now(), changed_by(), changed_in_trace(), market_terms(NEW));
    ELSIF TG_OP = 'UPDATE' AND market_terms(OLD) <> market_terms(NEW) THEN
        INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms, terms)
        VALUES (NEW.location, NEW.version, 'edited', changed_now(), changed_by(), changed_in_trace(),
            market_terms(OLD), market_terms(NEW));
    END IF;
    RETURN NULL;
END $$;

-- A TRUNCATE locks the whole table, so no other change of its keys is under way.
DROP FUNCTION record_truncation();
CREATE FUNCTION record_product_truncation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH pending AS (
        INSERT INTO pending_changes (kind, id, version, changed_at_ms)
        SELECT 'product', id, nextval('catalogue_version'), changed_now() FROM products ORDER BY id
        ON CONFLICT (kind, id) DO UPDATE
        SET version = excluded.version, changed_at_ms = excluded.changed_at_ms, stored_on = ''
        RETURNING id, version
    )
    INSERT INTO product_history (product_id, version, change, changed_at_ms, changed_by, trace_id,
        old_base_price_minor, old_list_price_minor, old_floor_minor, old_ceiling_minor)
    SELECT id, pending.version, 'deleted', changed_now(), changed_by(), changed_in_trace(),
        base_price_minor, list_price_minor, floor_minor, ceiling_minor
    FROM pending JOIN products USING (id);
    RETURN NULL;
END $$;

CREATE FUNCTION record_market_truncation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH pending AS (
        INSERT INTO pending_changes (kind, id, version, changed_at_ms)
        SELECT 'market', location, nextval('catalogue_version'), changed_now() FROM markets ORDER BY location
        ON CONFLICT (kind, id) DO UPDATE
        SET version = excluded.version, changed_at_ms = excluded.changed_at_ms, stored_on = ''
        RETURNING id, version
    )
    INSERT INTO market_history (location, version, change, changed_at_ms, changed_by, trace_id, old_terms)
    SELECT location, pending.version, 'deleted', changed_now(), changed_by(), changed_in_trace(), market_terms(markets)
    FROM pending JOIN markets ON location = id;
    RETURN NULL;
END $$;

CREATE TRIGGER products_change BEFORE INSERT OR DELETE ON products
FOR EACH ROW EXECUTE FUNCTION record_product_change();
CREATE TRIGGER products_update BEFORE UPDATE ON products
FOR EACH ROW WHEN (
    (OLD.id, OLD.base_price_minor, OLD.cost_minor, OLD.floor_minor, OLD.ceiling_minor, OLD.category, OLD.tags, OLD.revision)
    IS DISTINCT FROM
    (NEW.id, NEW.base_price_minor, NEW.cost_minor, NEW.floor_minor, NEW.ceiling_minor, NEW.category, NEW.tags, NEW.revision)
    OR ((OLD.list_price_minor, OLD.version) IS DISTINCT FROM (NEW.list_price_minor, NEW.version) AND NOT records_list_prices())
) EXECUTE FUNCTION record_product_change();
CREATE TRIGGER products_truncate BEFORE TRUNCATE ON products
FOR EACH STATEMENT EXECUTE FUNCTION record_product_truncation();
CREATE TRIGGER products_inserted AFTER INSERT ON products REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_product_history();
CREATE TRIGGER products_updated AFTER UPDATE ON products REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_product_history();
CREATE TRIGGER products_deleted AFTER DELETE ON products REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_product_history();
CREATE TRIGGER products_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON products
FOR EACH STATEMENT WHEN (NOT records_list_prices()) EXECUTE FUNCTION notify_of_changes();

CREATE TRIGGER markets_change BEFORE INSERT OR DELETE ON markets
FOR EACH ROW EXECUTE FUNCTION record_market_change();
CREATE TRIGGER markets_update BEFORE UPDATE ON markets
FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION record_market_change();
CREATE TRIGGER markets_truncate BEFORE TRUNCATE ON markets
FOR EACH STATEMENT EXECUTE FUNCTION record_market_truncation();
CREATE TRIGGER markets_history AFTER INSERT OR UPDATE OR DELETE ON markets
FOR EACH ROW EXECUTE FUNCTION record_market_history();
CREATE TRIGGER markets_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON markets
FOR EACH STATEMENT EXECUTE FUNCTION notify_of_changes();
