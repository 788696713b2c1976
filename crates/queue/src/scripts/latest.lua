-- The number of the latest request, for a run. KEYS: record, last request; ARGV: lease
-- Returns false when the lease is not current any more.
return is_current(KEYS[1], ARGV[1]) and number(KEYS[2])
