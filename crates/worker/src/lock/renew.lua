-- Renews the lock for its holder. KEYS: lock; ARGV: token, TTL in ms
-- Returns 0 when the token does not hold the lock any more.
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
