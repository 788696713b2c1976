-- Takes the recalculation lock, unless the request is covered already or another task holds it.
-- KEYS: lock, covered, waiting; ARGV: task, attempt, token, life in ms, number of the request, traceparent or ''
local holder = redis.call('GET', KEYS[1])
local task, attempt = string.match(holder or '', '^([^:]*):(%d+):')
if task == ARGV[1] then
    -- Left by an earlier attempt of the same task, which is dead: go on in its place. A request that
    -- was skipped trusting that attempt may still be open, so it does not matter what is covered.
    if tonumber(attempt) >= tonumber(ARGV[2]) then
        return 'held'
    end
elseif tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[5]) then
    return 'covered'
elseif holder then
    if ARGV[6] ~= '' then
        -- So that the holder's trace can be linked to those that it covers; the latest few will do.
        redis.call('RPUSH', KEYS[3], ARGV[6])
        redis.call('LTRIM', KEYS[3], -32, -1)
        redis.call('PEXPIRE', KEYS[3], ARGV[4])
    end
    return 'held'
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 'acquired'
