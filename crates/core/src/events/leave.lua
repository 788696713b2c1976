-- Removes a listener from the group unless it holds entries, which would go with it.
-- KEYS[1] log; ARGV: group, listener
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
end
return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
