-- Ends runs: the entry of each leaves the stream, and its outcome decides where its task goes. Each run is treated as if
-- it were the only one.
-- KEYS: stream, delayed, dead, bytes, then the record of each run
-- ARGV: group, retention in ms, capacity of the dead list in tasks, in bytes, prefix of records, then lease, task id,
--   outcome, text and delay in ms of each run; text and delay by outcome:
--   succeeded:   result
--   retry:       error, delay
--   defer:       the same, without using a retry
--   requeue:     nothing
--   dead_letter: error
-- Returns for each 1, or 0 when the lease is not current any more: the run was taken over and changes nothing.
local stream, delayed, dead, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, retention = ARGV[1], ARGV[2]
local time, entries, waiting = now(), {}, 0

-- The oldest beyond the capacity leave the list; their records expire.
local function trim_dead()
    for _ = 1, 100 do
        local count, taken = redis.call('ZCARD', dead), tonumber(redis.call('HGET', bytes, 'dead'))
        if count <= tonumber(ARGV[3]) and (taken <= tonumber(ARGV[4]) or count == 1) then
            break
        end
        local oldest = ARGV[5] .. redis.call('ZPOPMIN', dead)[1]
        count_bytes(bytes, 'dead', -size_of(oldest))
        redis.call('PEXPIRE', oldest, retention)
    end
end

local function ack(record, lease, id, outcome, text, delay)
    local fields = read('HMGET', record, 'lease', 'entry')
    if not fields or fields[1] ~= given_here(lease) then
        return 0
    end
    local size = size_of(record)
    entries[#entries + 1] = fields[2] or nil
    if outcome == 'succeeded' then
        waiting = waiting - size
        redis.call('HSET', record, 'state', 'succeeded', 'result', text, 'finished_at', time)
        redis.call('HDEL', record, 'lease', 'entry', 'error')
        redis.call('PEXPIRE', record, retention)
        return 1
    end
    redis.call('HDEL', record, 'lease', 'entry')
    if outcome == 'retry' or outcome == 'defer' then
        redis.call('HSET', record, 'state', 'retrying', 'error', text)
        waiting = waiting + size_of(record) - size
        if outcome == 'retry' then
            redis.call('HINCRBY', record, 'retries', 1)
        end
        redis.call('ZADD', delayed, time + delay, id)
    elseif outcome == 'requeue' then
        make_ready_again(record, stream, id)
    else
        redis.call('HSET', record, 'state', 'dead', 'error', text, 'finished_at', time)
        redis.call('ZADD', dead, time, id)
        waiting = waiting - size
        count_bytes(bytes, 'dead', size_of(record))
        trim_dead()
    end
    return 1
end

local replies = {}
for i = 5, #KEYS do
    replies[i - 4] = ack(KEYS[i], unpack(ARGV, 5 * i - 19, 5 * i - 15))
end
if #entries > 0 then
    redis.call('XACK', stream, group, unpack(entries))
    redis.call('XDEL', stream, unpack(entries))
end
if waiting ~= 0 then
    count_bytes(bytes, 'waiting', waiting)
end
return replies
