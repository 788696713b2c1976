-- Puts a dead task back in the queue as a new request, with all its retries.
-- KEYS: record, stream, last request, dead, bytes; ARGV: task id
-- Returns 0 when the task is not dead.
if redis.call('ZREM', KEYS[4], ARGV[1]) == 0 then
    return 0
end
if redis.call('HEXISTS', KEYS[1], 'payload') == 0 then
    return 0
end
redis.call('HSET', KEYS[1], 'number', redis.call('INCR', KEYS[3]), 'retries', 0)
count_bytes(KEYS[5], 'dead', -size_of(KEYS[1]))
redis.call('HDEL', KEYS[1], 'error', 'finished_at', 'done', 'total')
count_bytes(KEYS[5], 'waiting', size_of(KEYS[1]))
make_ready(KEYS[1], KEYS[2], ARGV[1])
return 1
