-- A task gives up for good: frees the lock if any attempt of it holds it, and tells whether a request newer
-- than its own was skipped and is open: it may have been skipped trusting this task.
-- KEYS: lock, numbers given out, covered, skipped; ARGV: task, number of its request
if string.match(redis.call('GET', KEYS[1]) or '', '^[^:]*') == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
local given = tonumber(redis.call('GET', KEYS[2]) or '0')
local covered = tonumber(redis.call('GET', KEYS[3]) or '0')
local skipped = math.min(tonumber(redis.call('GET', KEYS[4]) or '0'), given)
return skipped > math.max(covered, tonumber(ARGV[2])) and 1 or 0
