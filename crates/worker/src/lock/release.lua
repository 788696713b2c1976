-- Ends a scan: records what it covers, and releases the lock unless a newer request has arrived.
-- Takes a fence. KEYS, from 3: lock, its second key, covered, traces of skipped requests
-- ARGV, from 4: token, last request at the start of the scan, TTL in ms, 'always' or 'if_covered'
-- Returns {'released' | 'newer_requests' | 'lost', traceparents of requests that were skipped}.
if not is_current(KEYS[1], ARGV[1]) or holder(KEYS[3], KEYS[4]) ~= given_here(ARGV[4]) then
    return {'lost', {}}
end
local covers, last, covered = tonumber(ARGV[5]), number(KEYS[2]), number(KEYS[5])
if covers > covered or covered > last then
    redis.call('SET', KEYS[5], ARGV[5])
end
local traces = redis.call('LRANGE', KEYS[6], 0, -1)
redis.call('DEL', KEYS[6])
if ARGV[7] == 'if_covered' and last > covers then
    hold(KEYS[3], KEYS[4], given_here(ARGV[4]), ARGV[6])
    return {'newer_requests', traces}
end
free(KEYS[3], KEYS[4])
return {'released', traces}
