-- Renews the lock for its holder. Takes a fence. KEYS, from 3: lock; ARGV, from 4: token, TTL in ms
-- Returns 0 when the run is not current any more, or its token does not hold the lock.
if is_current(KEYS[1], ARGV[1]) and redis.call('GET', KEYS[3]) == given_here(ARGV[4]) then
    return redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
return 0
