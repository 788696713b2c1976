-- A task gives up for good: frees the lock if any attempt of it holds it, and tells whether requests
-- newer than its own are open. They may have been skipped trusting it.
-- KEYS: lock, numbers given out, covered; ARGV: task, number of its request
local task = string.match(redis.call('GET', KEYS[1]) or '', '^([^:]*):')
if task == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
local given = tonumber(redis.call('GET', KEYS[2]) or '0')
local covered = tonumber(redis.call('GET', KEYS[3]) or '0')
return given > math.max(covered, tonumber(ARGV[2])) and 1 or 0
