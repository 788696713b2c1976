-- Ends a scan: records what it covered, and releases the lock if nothing was asked for since it started.
-- KEYS: lock, numbers given out, covered, waiting
-- ARGV: token, number at the start of the scan, life in ms, 'anyway' or ''
-- Returns {what came of it, the traceparents of those that found the lock held}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return {'lost', {}}
end
local waiting = redis.call('LRANGE', KEYS[4], 0, -1)
redis.call('DEL', KEYS[4])
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[3], ARGV[2])
end
if ARGV[4] == '' and tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {'moved', waiting}
end
redis.call('DEL', KEYS[1])
return {'released', waiting}
