-- Releases the lock after a scan that failed. It covers nothing.
-- Takes a fence. KEYS, from 3: lock, its second key; ARGV, from 4: token
if is_current(KEYS[1], ARGV[1]) and holder(KEYS[3], KEYS[4]) == given_here(ARGV[4]) then
    free(KEYS[3], KEYS[4])
end
