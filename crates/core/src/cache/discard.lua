-- Removes a cache entry if it is still the one that was found corrupt.
-- KEYS[1] entry; ARGV: what it held
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
