-- Renews the lock for its holder. Takes a fence. KEYS, from 3: lock, its second key; ARGV, from 4: token, TTL in ms
-- Returns 0 when the run is not current any more, or its token does not hold the lock.
if is_current(KEYS[1], ARGV[1]) and holder(KEYS[3], KEYS[4]) == given_here(ARGV[4]) then
    hold(KEYS[3], KEYS[4], given_here(ARGV[4]), ARGV[5])
    return 1
end
return 0
