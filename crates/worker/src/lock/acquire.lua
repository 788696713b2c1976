-- Takes the recalculation lock, unless the request is covered already or another task holds it.
-- KEYS: lock, numbers given out, covered, skipped, waiting, record of the task
-- ARGV: task, token, life in ms, number of the request, traceparent or '', lease of the run
if redis.call('HGET', KEYS[6], 'lease') ~= ARGV[6] then
    -- The run was taken over while it was on its way here. Others would be skipped trusting it.
    return 'superseded'
end
local function number(key)
    return tonumber(redis.call('GET', key) or '0')
end
local function take()
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 'acquired'
end

local asked, given, covered, skipped = tonumber(ARGV[4]), number(KEYS[2]), number(KEYS[3]), number(KEYS[4])
if covered > given then
    covered = 0 -- the counter was lost and started over
end
local holder = redis.call('GET', KEYS[1])
if not holder then
    -- Whoever was skipped trusted a holder that is gone: all of them must be covered, not this request only.
    if covered >= math.max(asked, math.min(skipped, given)) then
        return 'covered'
    end
    return take()
end
local task, random = string.match(holder, '^([^:]*):%d+:(%x+)$')
if task == ARGV[1] then
    -- Left by an earlier attempt of the same task, which has lost its lease: go on in its place.
    return take()
end
if random and ARGV[1] == 'follow-up.' .. random then
    -- The holder's own follow-up was begun before the holder could release: it is to take the place.
    return take()
end
if covered >= asked then
    return 'covered'
end
redis.call('SET', KEYS[4], math.max(asked, skipped))
if ARGV[5] ~= '' then
    -- So that the holder's trace can be linked to those that it covers; the latest few will do.
    redis.call('RPUSH', KEYS[5], ARGV[5])
    redis.call('LTRIM', KEYS[5], -32, -1)
    redis.call('PEXPIRE', KEYS[5], ARGV[3])
end
return 'held'
