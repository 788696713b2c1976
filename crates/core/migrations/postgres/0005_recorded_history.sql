-- A transaction that records list prices writes their history itself, in the statement that writes the rows.
DROP TRIGGER products_updated ON products;
CREATE TRIGGER products_updated AFTER UPDATE ON products REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT WHEN (NOT records_list_prices()) EXECUTE FUNCTION record_product_history();
