-- Writes cache entries, each unless a newer version of it is there.
-- KEYS: the entries; ARGV: version, data and life in ms of each
-- Returns how many were written.
local written = 0
for i, key in ipairs(KEYS) do
    local version, data, life = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
    local have = redis.pcall('HGET', key, 'v')
    if type(have) == 'table' then -- no hash: it must not keep the other entries from being written
        redis.call('DEL', key)
    end
    have = type(have) == 'string' and tonumber(have)
    if not have or not (have > tonumber(version)) then
        redis.call('HSET', key, 'v', version, 'd', data)
        redis.call('PEXPIRE', key, life)
        written = written + 1
    end
end
return written
