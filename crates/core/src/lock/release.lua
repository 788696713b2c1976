-- Ends a scan: records what it covered, and releases the lock if nothing was asked for since it started.
-- KEYS: lock, numbers given out, covered; ARGV: token, number at the start of the scan, life in ms, 'anyway' or ''
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 'lost'
end
if tonumber(redis.call('GET', KEYS[3]) or '0') < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[3], ARGV[2])
end
if ARGV[4] == '' and tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    return 'moved'
end
redis.call('DEL', KEYS[1])
return 'released'
