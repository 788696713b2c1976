-- Takes the recalculation lock, unless the request is covered already or another task holds it.
-- KEYS: lock, covered, waiting, record of the task
-- ARGV: task, token, life in ms, number of the request, traceparent or '', lease of the run
if redis.call('HGET', KEYS[4], 'lease') ~= ARGV[6] then
    -- The run was taken over while it was on its way here. Others would be skipped trusting it.
    return 'superseded'
end
local holder = redis.call('GET', KEYS[1])
if holder and string.match(holder, '^[^:]*') == ARGV[1] then
    -- Left by an earlier attempt of the same task, which has lost its lease: go on in its place. A request
    -- that was skipped trusting that attempt may still be open, so it does not matter what is covered.
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 'acquired'
end
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[4]) then
    return 'covered'
end
if not holder then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 'acquired'
end
if ARGV[5] ~= '' then
    -- So that the holder's trace can be linked to those that it covers; the latest few will do.
    redis.call('RPUSH', KEYS[3], ARGV[5])
    redis.call('LTRIM', KEYS[3], -32, -1)
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return 'held'
