-- Makes delayed tasks ready that are due.
-- KEYS: delayed, stream; ARGV: prefix of records, limit
-- Returns ms until the next one is due, 0 when more are due, false when no task is delayed.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now(), 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
    redis.call('ZREM', KEYS[1], id)
    make_ready_again(ARGV[1] .. id, KEYS[2], id)
end
local next = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if #next == 0 then
    return false
end
return math.max(0, next[2] - now())
