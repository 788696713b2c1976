-- Begins a run of a delivered entry, under a new lease.
-- KEYS: record, stream; ARGV: group, entry, lease, most deliveries, consumer, 'again' if the consumer knows of
-- no run of the entry although it read it
-- Returns {1 to run it | 0 when it was delivered too often, the record}, or false when the entry is no
-- longer that of its task, and is removed, or has been taken over by another consumer meanwhile.
local pending = redis.call('XPENDING', KEYS[2], ARGV[1], ARGV[2], ARGV[2], 1)[1]
if pending and pending[2] ~= ARGV[5] then
    return false
end
local state, current = unpack(redis.call('HMGET', KEYS[1], 'state', 'entry'))
if current ~= ARGV[2] or (state ~= 'queued' and state ~= 'running') then
    redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
    redis.call('XDEL', KEYS[2], ARGV[2])
    return false
end
local before = redis.call('HGET', KEYS[1], 'lease') or ''
redis.call('HSET', KEYS[1], 'state', 'running', 'lease', ARGV[3])
-- A delivery whose answer the same consumer never got ended nothing, so it counts once.
local unanswered = ARGV[6] == 'again' and string.sub(before, 1, #ARGV[5] + 1) == ARGV[5] .. ':'
local deliveries = redis.call('HINCRBY', KEYS[1], 'deliveries', unanswered and 0 or 1)
local run = deliveries <= tonumber(ARGV[4])
if run then
    redis.call('HINCRBY', KEYS[1], 'attempts', 1)
    redis.call('HSET', KEYS[1], 'started_at', now())
    redis.call('HDEL', KEYS[1], 'done', 'total')
end
return {run and 1 or 0, redis.call('HGETALL', KEYS[1])}
