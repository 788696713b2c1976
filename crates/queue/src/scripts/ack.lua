-- Ends a run: its entry leaves the stream, and the outcome decides where its task goes.
-- KEYS: record, stream, delayed, dead
-- ARGV: group, lease, task id, outcome, and by outcome:
--   succeeded:   result, retention in ms
--   retry:       error, delay in ms
--   requeue:     nothing
--   dead_letter: error, retention in ms, capacity of the dead list, prefix of records
-- Returns 1, or 0 when the lease is not current any more: the run was taken over and changes nothing.
local record, id, outcome = KEYS[1], ARGV[3], ARGV[4]
if not is_current(record, ARGV[2]) then
    return 0
end
local entry = redis.call('HGET', record, 'entry')
redis.call('XACK', KEYS[2], ARGV[1], entry)
redis.call('XDEL', KEYS[2], entry)
redis.call('HDEL', record, 'lease', 'entry')

if outcome == 'succeeded' then
    redis.call('HSET', record, 'state', 'succeeded', 'result', ARGV[5], 'finished_at', now())
    redis.call('HDEL', record, 'error')
    redis.call('PEXPIRE', record, ARGV[6])
elseif outcome == 'retry' then
    redis.call('HSET', record, 'state', 'retrying', 'error', ARGV[5])
    redis.call('HINCRBY', record, 'retries', 1)
    redis.call('ZADD', KEYS[3], now() + ARGV[6], id)
elseif outcome == 'requeue' then
    make_ready(record, KEYS[2], id)
else
    redis.call('HSET', record, 'state', 'dead', 'error', ARGV[5], 'finished_at', now())
    redis.call('ZADD', KEYS[4], now(), id)
    -- The oldest beyond the capacity leave the list; their records expire.
    for _ = 1, math.min(redis.call('ZCARD', KEYS[4]) - ARGV[7], 100) do
        local oldest = redis.call('ZPOPMIN', KEYS[4])[1]
        redis.call('PEXPIRE', ARGV[8] .. oldest, ARGV[6])
    end
end
return 1
