-- Ends a run for good: the task joins the dead list, which drops its oldest beyond its capacity.
-- KEYS: record, stream, dead; ARGV: group, lease, id, error, capacity, prefix of records, retention in ms
-- Returns 0 when the lease is not current any more.
if not end_run(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'state', 'dead', 'error', ARGV[4], 'finished_at', now())
redis.call('ZADD', KEYS[3], now(), ARGV[3])
local excess = math.min(redis.call('ZCARD', KEYS[3]) - ARGV[5], 100)
for _ = 1, excess do
    local oldest = redis.call('ZPOPMIN', KEYS[3])[1]
    redis.call('PEXPIRE', ARGV[6] .. oldest, ARGV[7])
end
return 1
