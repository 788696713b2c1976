-- Takes over entries of consumers that have been silent for long, the oldest first.
-- KEYS: stream; ARGV: group, consumer, silence in ms, limit
-- Returns the entries.
local claimed = {}
local silent = redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])
for _, pending in ipairs(silent) do
    local entries = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], pending[1])
    claimed[#claimed + 1] = entries[1] -- none when somebody deleted it from the stream
end
return claimed
