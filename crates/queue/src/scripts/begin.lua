-- Begins a run of a delivered entry, under a new lease.
-- KEYS: record, stream
-- ARGV: group, entry, lease, max deliveries, consumer, 'pending' when this consumer read the entry earlier and
-- knows of no run of it
-- Returns {1 to run it | 0 when it was delivered too often, the record}, or false when another consumer has
-- taken the entry over, or when it is not its task's current entry and has been removed.
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
-- When only the reply to this script was lost, the same consumer begins the run again: one delivery, not two.
local reply_lost = ARGV[6] == 'pending' and string.sub(before, 1, #ARGV[5] + 1) == ARGV[5] .. ':'
local deliveries = redis.call('HINCRBY', KEYS[1], 'deliveries', reply_lost and 0 or 1)
local run = deliveries <= tonumber(ARGV[4])
if run then
    redis.call('HINCRBY', KEYS[1], 'attempts', 1)
    redis.call('HSET', KEYS[1], 'started_at', now())
    redis.call('HDEL', KEYS[1], 'done', 'total')
end
return {run and 1 or 0, redis.call('HGETALL', KEYS[1])}
