-- Releases an entry that was fetched and not begun: its task is ready for another worker at once.
-- KEYS: record, stream; ARGV: group, entry, task id
-- An entry that is not the current one of a queued task is left alone.
local state, current = unpack(redis.call('HMGET', KEYS[1], 'state', 'entry'))
if current == ARGV[2] and state == 'queued' then
    redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
    redis.call('XDEL', KEYS[2], ARGV[2])
    make_ready(KEYS[1], KEYS[2], ARGV[3])
end
