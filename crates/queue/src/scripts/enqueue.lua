-- Enqueues a task, unless its id has a record already.
-- KEYS: record, stream, last request; ARGV: id, payload, traceparent or '', capacity
-- Returns {'created' | 'known' | 'full', number of the request}.
local known = redis.call('HGET', KEYS[1], 'number')
if known then
    return {'known', tonumber(known)}
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[4]) then
    return {'full', 0}
end
local request = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[1], 'number', request, 'payload', ARGV[2], 'created_at', now(), 'attempts', 0,
    'retries', 0)
if ARGV[3] ~= '' then
    redis.call('HSET', KEYS[1], 'traceparent', ARGV[3])
end
make_ready(KEYS[1], KEYS[2], ARGV[1])
return {'created', request}
