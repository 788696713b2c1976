-- Records the progress of a run. KEYS: record; ARGV: lease, done, total
-- Returns 0 when the lease is not current any more.
if not is_current(KEYS[1], ARGV[1]) then
    return 0
end
redis.call('HSET', KEYS[1], 'done', ARGV[2], 'total', ARGV[3])
return 1
