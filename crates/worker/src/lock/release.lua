-- Ends a scan: records what it covers, and releases the lock unless a newer request has arrived.
-- Takes a fence. KEYS, from 3: lock, covered, traces of skipped requests
-- ARGV, from 4: token, last request at the start of the scan, TTL in ms, 'always' or 'if_covered'
-- Returns {'released' | 'newer_requests' | 'lost', traceparents of requests that were skipped}.
if redis.call('GET', KEYS[3]) ~= ARGV[4] then
    return {'lost', {}}
end
local covers, last = tonumber(ARGV[5]), last_request()
local covered = tonumber(redis.call('GET', KEYS[4]) or '0')
if covers > covered or covered > last then
    redis.call('SET', KEYS[4], ARGV[5])
end
local traces = redis.call('LRANGE', KEYS[5], 0, -1)
redis.call('DEL', KEYS[5])
if ARGV[7] == 'if_covered' and last > covers then
    redis.call('PEXPIRE', KEYS[3], ARGV[6])
    return {'newer_requests', traces}
end
redis.call('DEL', KEYS[3])
return {'released', traces}
