-- Every change of what a read sees takes a version from one sequence and leaves its key in `pending_changes`,
-- whoever makes it. So versions only grow, also over deletion and re-creation, and no change is missed.
-- Processes of an older build may be running.
LOCK TABLE products, markets IN SHARE ROW EXCLUSIVE MODE;
CREATE SEQUENCE catalogue_version;
SELECT setval('catalogue_version', GREATEST(1, (SELECT max(version) FROM products), (SELECT max(version) FROM markets)));

CREATE TABLE pending_changes (
    kind          TEXT   NOT NULL,
    id            TEXT   COLLATE "C" NOT NULL,
    -- Version of the latest change of this key.
    version       BIGINT NOT NULL,
    changed_at_ms BIGINT NOT NULL,
    -- The Redis (its master_replid) whose cache holds this version, and since when; '' while none does.
    stored_on     TEXT   COLLATE "C" NOT NULL DEFAULT '',
    stored_at_ms  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id)
);
CREATE INDEX pending_changes_to_store ON pending_changes (version) WHERE stored_on = '';
CREATE INDEX pending_changes_stored ON pending_changes (stored_on, stored_at_ms) WHERE stored_on <> '';

-- The key's row is locked until the commit before the version is taken: a key's versions have the order of its commits.
-- A row that exists is locked before its new values are computed; a new one gets its version in a second step. Both find
-- the row by ON CONFLICT, which needs no plan: an UPDATE that was planned for an empty table would read all of a full one.
CREATE FUNCTION record_change(changed_kind TEXT, changed_id TEXT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    now_ms BIGINT := extract(epoch FROM clock_timestamp()) * 1000;
    taken BIGINT := 0;
BEGIN
    WHILE taken = 0 LOOP
        INSERT INTO pending_changes (kind, id, version, changed_at_ms) VALUES (changed_kind, changed_id, 0, now_ms)
        ON CONFLICT (kind, id) DO UPDATE
        SET version = nextval('catalogue_version'), changed_at_ms = excluded.changed_at_ms, stored_on = ''
        RETURNING version INTO taken;
    END LOOP;
    RETURN taken;
END $$;

CREATE FUNCTION record_product_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM record_change('product', OLD.id);
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
        PERFORM record_change('product', OLD.id);
    END IF;
    NEW.version := record_change('product', NEW.id);
    RETURN NEW;
END $$;

CREATE FUNCTION record_market_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM record_change('market', OLD.location);
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.location <> NEW.location THEN
        PERFORM record_change('market', OLD.location);
    END IF;
    NEW.version := record_change('market', NEW.location);
    RETURN NEW;
END $$;

-- A TRUNCATE locks the whole table, so no other change of its keys is under way.
CREATE FUNCTION record_truncation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO pending_changes (kind, id, version, changed_at_ms) '
        'SELECT %L, %I, nextval(''catalogue_version''), (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT '
        'FROM %I ORDER BY %I '
        'ON CONFLICT (kind, id) DO UPDATE '
        'SET version = excluded.version, changed_at_ms = excluded.changed_at_ms, stored_on = ''''',
        TG_ARGV[0], TG_ARGV[1], TG_TABLE_NAME, TG_ARGV[1]);
    RETURN NULL;
END $$;

-- Wakes the workers that follow the changes.
CREATE FUNCTION notify_of_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY pricing_changes;
    RETURN NULL;
END $$;

DROP TRIGGER products_version ON products;
DROP TRIGGER markets_version ON markets;
DROP FUNCTION next_version();

CREATE TRIGGER products_change BEFORE INSERT OR DELETE ON products
FOR EACH ROW EXECUTE FUNCTION record_product_change();
CREATE TRIGGER products_update BEFORE UPDATE ON products
FOR EACH ROW WHEN ((OLD.id, OLD.base_price_minor, OLD.currency, OLD.version)
    IS DISTINCT FROM (NEW.id, NEW.base_price_minor, NEW.currency, NEW.version))
EXECUTE FUNCTION record_product_change();
CREATE TRIGGER products_truncate BEFORE TRUNCATE ON products
FOR EACH STATEMENT EXECUTE FUNCTION record_truncation('product', 'id');
CREATE TRIGGER products_notify
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, base_price_minor, currency, version ON products
FOR EACH STATEMENT EXECUTE FUNCTION notify_of_changes();

CREATE TRIGGER markets_change BEFORE INSERT OR DELETE ON markets
FOR EACH ROW EXECUTE FUNCTION record_market_change();
CREATE TRIGGER markets_update BEFORE UPDATE ON markets
FOR EACH ROW WHEN ((OLD.location, OLD.multiplier_ppm, OLD.version)
    IS DISTINCT FROM (NEW.location, NEW.multiplier_ppm, NEW.version))
EXECUTE FUNCTION record_market_change();
CREATE TRIGGER markets_truncate BEFORE TRUNCATE ON markets
FOR EACH STATEMENT EXECUTE FUNCTION record_truncation('market', 'location');
CREATE TRIGGER markets_notify
AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF location, multiplier_ppm, version ON markets
FOR EACH STATEMENT EXECUTE FUNCTION notify_of_changes();

-- Rows that no price can be made of are refused. NOT VALID: an older database may hold some; they are skipped.
ALTER TABLE products
    ADD CONSTRAINT products_id_is_an_id CHECK (id ~ '^[A-Za-z0-9._-]{1,64}$') NOT VALID,
    ADD CONSTRAINT products_currency_is_a_code CHECK (currency COLLATE "C" ~ '^[A-Z]{3}$') NOT VALID;
ALTER TABLE markets
    ADD CONSTRAINT markets_location_is_an_id CHECK (location ~ '^[A-Za-z0-9._-]{1,64}$') NOT VALID;

-- The history keeps the price before each change as well, and is pruned by time.
ALTER TABLE price_history ADD COLUMN old_list_price_minor BIGINT;
CREATE INDEX price_history_by_time ON price_history (recorded_at_ms);
