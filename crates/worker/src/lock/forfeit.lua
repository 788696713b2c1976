-- Gives up on a task for good: releases the lock if the task or the run that it follows up holds it, and
-- tells whether a request newer than its own was skipped, maybe trusting this task, and is not covered.
-- Takes a fence. KEYS, from 3: lock, its second key, covered, skipped
local request, task_id = tonumber(ARGV[2]), ARGV[3]
if not is_current(KEYS[1], ARGV[1]) then
    -- The run was taken over: its successor lives, and may hold the lock.
    return 'superseded'
end
local holder_task, nonce = string.match(holder(KEYS[3], KEYS[4]) or '', '^([^:]*):%d+:(%x+)@')
-- A follow-up may die before its holder has released. Requests skipped from now on would trust a holder that
-- scans no more, so its lock is released as well.
if holder_task == task_id or nonce and task_id == 'follow-up.' .. nonce then
    free(KEYS[3], KEYS[4])
end
local last, covered = number(KEYS[2]), number(KEYS[5])
if covered > last then
    covered = 0 -- the counter of requests was lost and started over
end
local skipped = math.min(number(KEYS[6]), last)
return skipped > math.max(covered, request) and 'open' or 'covered'
