-- Begins a run of a delivered entry, under a new lease.
-- KEYS: record, stream; ARGV: group, entry, lease, most deliveries
-- Returns {1 to run it | 0 when it was delivered too often, the record}, or false when the entry is no
-- longer that of its task: it is removed then.
local state, current = unpack(redis.call('HMGET', KEYS[1], 'state', 'entry'))
if current ~= ARGV[2] or (state ~= 'queued' and state ~= 'running') then
    redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
    redis.call('XDEL', KEYS[2], ARGV[2])
    return false
end
redis.call('HSET', KEYS[1], 'state', 'running', 'lease', ARGV[3])
local run = redis.call('HINCRBY', KEYS[1], 'deliveries', 1) <= tonumber(ARGV[4])
if run then
    redis.call('HINCRBY', KEYS[1], 'attempts', 1)
    redis.call('HSET', KEYS[1], 'started_at', now())
    redis.call('HDEL', KEYS[1], 'done', 'total')
end
return {run and 1 or 0, redis.call('HGETALL', KEYS[1])}
