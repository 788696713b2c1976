-- Removes a cache entry if it still holds the data that was found corrupt, or is no hash at all.
-- KEYS[1] entry; ARGV: data ('' also stands for none)
local data = redis.pcall('HGET', KEYS[1], 'd')
if type(data) == 'table' or (data or '') == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
