-- Appends an event to the log and publishes it on the channel, both or neither.
-- KEYS[1] log; ARGV: channel, envelope, most entries, most bytes of memory
-- Returns the number of entries with this one, or 0 when the log is full.
local length = redis.call('XLEN', KEYS[1])
if length >= tonumber(ARGV[3]) or (redis.call('MEMORY', 'USAGE', KEYS[1]) or 0) >= tonumber(ARGV[4]) then
    return 0
end
redis.call('XADD', KEYS[1], '*', 'event', ARGV[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return length + 1
