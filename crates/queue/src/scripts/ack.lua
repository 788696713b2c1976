-- Ends a run: its entry leaves the stream, and the outcome decides where its task goes.
-- KEYS: record, stream, delayed, dead, bytes
-- ARGV: group, lease, task id, outcome, and by outcome:
--   succeeded:   result, retention in ms
--   retry:       error, delay in ms
--   defer:       the same, without using a retry
--   requeue:     nothing
--   dead_letter: error, retention in ms, capacity of the dead list in tasks, in bytes, prefix of records
-- Returns 1, or 0 when the lease is not current any more: the run was taken over and changes nothing.
local record, id, outcome = KEYS[1], ARGV[3], ARGV[4]
if not is_current(record, ARGV[2]) then
    return 0
end
local entry, size = redis.call('HGET', record, 'entry'), size_of(record)
redis.call('XACK', KEYS[2], ARGV[1], entry)
redis.call('XDEL', KEYS[2], entry)
redis.call('HDEL', record, 'lease', 'entry')

if outcome == 'succeeded' then
    count_bytes(KEYS[5], 'waiting', -size)
    redis.call('HSET', record, 'state', 'succeeded', 'result', ARGV[5], 'finished_at', now())
    redis.call('HDEL', record, 'error')
    redis.call('PEXPIRE', record, ARGV[6])
elseif outcome == 'retry' or outcome == 'defer' then
    redis.call('HSET', record, 'state', 'retrying', 'error', ARGV[5])
    count_bytes(KEYS[5], 'waiting', size_of(record) - size)
    if outcome == 'retry' then
        redis.call('HINCRBY', record, 'retries', 1)
    end
    redis.call('ZADD', KEYS[3], now() + ARGV[6], id)
elseif outcome == 'requeue' then
    make_ready(record, KEYS[2], id)
else
    redis.call('HSET', record, 'state', 'dead', 'error', ARGV[5], 'finished_at', now())
    redis.call('ZADD', KEYS[4], now(), id)
    count_bytes(KEYS[5], 'waiting', -size)
    count_bytes(KEYS[5], 'dead', size_of(record))
    -- The oldest beyond the capacity leave the list; their records expire.
    for _ = 1, 100 do
        local count, bytes = redis.call('ZCARD', KEYS[4]), tonumber(redis.call('HGET', KEYS[5], 'dead'))
        if count <= tonumber(ARGV[7]) and (bytes <= tonumber(ARGV[8]) or count == 1) then
            break
        end
        local oldest = ARGV[9] .. redis.call('ZPOPMIN', KEYS[4])[1]
        count_bytes(KEYS[5], 'dead', -size_of(oldest))
        redis.call('PEXPIRE', oldest, ARGV[6])
    end
end
return 1
