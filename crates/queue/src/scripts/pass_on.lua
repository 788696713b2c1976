-- Passes on an entry that was read but not begun: the task is ready for another worker at once.
-- KEYS: record, stream; ARGV: group, entry, id
-- Returns 0 when the entry is no longer that of a task that waits.
local state, current = unpack(redis.call('HMGET', KEYS[1], 'state', 'entry'))
if current ~= ARGV[2] or state ~= 'queued' then
    return 0
end
redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[2], ARGV[2])
make_ready(KEYS[1], KEYS[2], ARGV[3])
return 1
