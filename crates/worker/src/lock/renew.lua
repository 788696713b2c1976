-- Renews the lock for its holder. KEYS: lock; ARGV: token, life in ms
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
