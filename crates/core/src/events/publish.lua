-- Appends an event to the log and publishes it on the channel, both or neither.
-- KEYS[1] log; ARGV: channel, envelope, most entries
-- Returns 1, or 0 when the log is full.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then
    return 0
end
redis.call('XADD', KEYS[1], '*', 'event', ARGV[2])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
