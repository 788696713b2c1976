-- Ends a run with a transient failure: the task waits, in Redis, to be tried again.
-- KEYS: record, stream, delayed; ARGV: group, lease, id, error, delay in ms
-- Returns 0 when the lease is not current any more.
if not end_run(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'state', 'retrying', 'error', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'retries', 1)
redis.call('ZADD', KEYS[3], now() + ARGV[5], ARGV[3])
return 1
