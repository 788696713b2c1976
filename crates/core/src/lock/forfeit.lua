-- A task gives up for good: frees the lock if any attempt of it holds it, and tells whether a request newer
-- than its own was skipped and is open: it may have been skipped trusting this task.
-- KEYS: lock, numbers given out, covered, skipped; ARGV: task, number of its request
local task, attempt = string.match(redis.call('GET', KEYS[1]) or '', '^([^:]*):(%d+):')
-- A follow-up may die before its holder has released: whoever is skipped from now on would trust a holder that
-- scans no more, so the lock goes as well.
if task == ARGV[1] or task and ARGV[1] == string.sub(task, 1, 50) .. '.' .. attempt then
    redis.call('DEL', KEYS[1])
end
local given = tonumber(redis.call('GET', KEYS[2]) or '0')
local covered = tonumber(redis.call('GET', KEYS[3]) or '0')
local skipped = math.min(tonumber(redis.call('GET', KEYS[4]) or '0'), given)
return skipped > math.max(covered, tonumber(ARGV[2])) and 1 or 0
