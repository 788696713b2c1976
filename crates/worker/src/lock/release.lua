-- Ends a scan: records what it covered, and releases the lock if nothing was asked for since it started.
-- KEYS: lock, numbers given out, covered, waiting
-- ARGV: token, number at the start of the scan, life in ms, 'anyway' or 'if covered'
-- Returns {what came of it, the traceparents of those that found the lock held}.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return {'lost', {}}
end
local covers, given = tonumber(ARGV[2]), tonumber(redis.call('GET', KEYS[2]) or '0')
local covered = tonumber(redis.call('GET', KEYS[3]) or '0')
if covers > covered or covered > given then
    redis.call('SET', KEYS[3], ARGV[2])
end
local waiting = redis.call('LRANGE', KEYS[4], 0, -1)
redis.call('DEL', KEYS[4])
if ARGV[4] == 'if covered' and given > covers then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return {'moved', waiting}
end
redis.call('DEL', KEYS[1])
return {'released', waiting}
