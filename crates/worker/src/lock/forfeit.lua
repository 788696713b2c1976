-- A task gives up for good: frees the lock if any attempt of it holds it, and tells whether a request newer
-- than its own was skipped and is open: it may have been skipped trusting this task.
-- KEYS: lock, numbers given out, covered, skipped, record of the task
-- ARGV: task, number of its request, lease of the run
if redis.call('HGET', KEYS[5], 'lease') ~= ARGV[3] then
    -- The run was taken over: its successor lives, and may hold the lock.
    return 'superseded'
end
local task, random = string.match(redis.call('GET', KEYS[1]) or '', '^([^:]*):%d+:(%x+)$')
-- A follow-up may die before its holder has released: whoever is skipped from now on would trust a holder that
-- scans no more, so the lock goes as well.
if task == ARGV[1] or random and ARGV[1] == 'follow-up.' .. random then
    redis.call('DEL', KEYS[1])
end
local given = tonumber(redis.call('GET', KEYS[2]) or '0')
local covered = tonumber(redis.call('GET', KEYS[3]) or '0')
local skipped = math.min(tonumber(redis.call('GET', KEYS[4]) or '0'), given)
return skipped > math.max(covered, tonumber(ARGV[2])) and 'open' or 'covered'
