-- Acquires the recalculation lock, unless the request is covered or another task holds the lock.
-- Takes a fence. KEYS, from 3: lock, its second key, covered, skipped, traces of skipped requests
-- ARGV, from 4: token, TTL in ms, traceparent or ''
local request, task_id = tonumber(ARGV[2]), ARGV[3]
if not is_current(KEYS[1], ARGV[1]) then
    -- The run was taken over on its way here. Requests would be skipped trusting a holder that nobody retries.
    return 'superseded'
end
local function acquire()
    hold(KEYS[3], KEYS[4], given_here(ARGV[4]), ARGV[5])
    return 'acquired'
end

local last, covered, skipped = number(KEYS[2]), number(KEYS[5]), number(KEYS[6])
if covered > last then
    covered = 0 -- the counter of requests was lost and started over
end
local held = holder(KEYS[3], KEYS[4])
-- A holder from before a failover or a restart of Redis can neither cover nor release here: the lock is free.
if not held or not is_given_here(held) then
    -- Every skipped request trusted a holder that is gone, so all of them must be covered, not only this one.
    if covered >= math.max(request, math.min(skipped, last)) then
        return 'covered'
    end
    return acquire()
end
local holder_task, nonce = string.match(held, '^([^:]*):%d+:(%x+)@')
if holder_task == task_id then
    -- An earlier attempt of the same task holds the lock and has lost its lease: take over from it.
    return acquire()
end
if nonce and task_id == 'follow-up.' .. nonce then
    -- This is the holder's own follow-up, begun before the holder released: take over from it.
    return acquire()
end
if covered >= request then
    return 'covered'
end
redis.call('SET', KEYS[6], math.max(request, skipped))
if ARGV[6] ~= '' then
    -- The holder's trace is linked to the latest few that it covers.
    redis.call('RPUSH', KEYS[7], ARGV[6])
    redis.call('LTRIM', KEYS[7], -32, -1)
    redis.call('PEXPIRE', KEYS[7], ARGV[5])
end
return 'held'
