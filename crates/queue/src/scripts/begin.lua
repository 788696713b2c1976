-- Begins a run of a delivered entry, under a new lease.
-- KEYS: record, stream
-- ARGV: group, entry, lease, max deliveries, consumer, 'alone' when nothing else runs on the consumer, else ''
-- Returns {outcome, record}, the record empty but for the first two:
--   run:      the run has begun
--   poisoned: it has begun and is not to be run: the task was delivered too often
--   suspect:  nothing has begun: this delivery is the task's last, and must be begun alone
--   gone:     another consumer has taken the entry over, or it is not its task's current one and was removed
local record, entry, consumer = KEYS[1], ARGV[2], ARGV[5]
local pending = redis.call('XPENDING', KEYS[2], ARGV[1], entry, entry, 1)[1]
if not pending or pending[2] ~= consumer then
    return {'gone', {}}
end
local state, current, before, deliveries =
    unpack(redis.call('HMGET', record, 'state', 'entry', 'lease', 'deliveries'))
if current ~= entry or (state ~= 'queued' and state ~= 'running') then
    redis.call('XACK', KEYS[2], ARGV[1], entry)
    redis.call('XDEL', KEYS[2], entry)
    return {'gone', {}}
end
-- An earlier run did not end its worker if that is this one, or if Redis failed over or restarted during the run.
-- Then this is the same delivery.
local is_innocent = before
    and (not is_given_here(before) or string.sub(before, 1, #consumer + 1) == consumer .. ':')
deliveries = math.max(1, tonumber(deliveries or '0') + (is_innocent and 0 or 1))
local most = tonumber(ARGV[4])
if deliveries == most and ARGV[6] ~= 'alone' then
    return {'suspect', {}}
end
redis.call('HSET', record, 'state', 'running', 'lease', given_here(ARGV[3]), 'deliveries', deliveries)
if deliveries > most then
    return {'poisoned', redis.call('HGETALL', record)}
end
redis.call('HINCRBY', record, 'attempts', 1)
redis.call('HSET', record, 'started_at', now())
redis.call('HDEL', record, 'done', 'total')
return {'run', redis.call('HGETALL', record)}
