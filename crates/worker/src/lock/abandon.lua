-- Releases the lock after a scan that failed. It covers nothing. Takes a fence. KEYS, from 3: lock; ARGV, from 4: token
if is_current(KEYS[1], ARGV[1]) and redis.call('GET', KEYS[3]) == given_here(ARGV[4]) then
    return redis.call('DEL', KEYS[3])
end
return 0
