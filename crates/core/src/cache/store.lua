#!lua flags=allow-oom
-- Writes cache entries, each unless a newer version of it is there. An entry is a text: its version, when it expires in ms
-- since 1970, its data.
-- KEYS: the highest version, then the entries
-- ARGV: time of the read in ms, maximum age of a read in ms, then version, data and life in ms of each entry
-- Returns the positions of the entries that were refused, from 1; or false, with nothing written, when they were read
-- from the database too long ago: a negative entry that would have refused them may have expired. The age of a read in
-- the future, by a clock that went back, is unknown.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local age = now - ARGV[1]
if age < 0 or age > tonumber(ARGV[2]) then
    return false
end
local refused, highest = {}, 0
for i = 2, #KEYS do
    local version, data, life = ARGV[3 * i - 3], ARGV[3 * i - 2], ARGV[3 * i - 1]
    local entry = redis.pcall('GET', KEYS[i]) -- an error if it is no string: it must not keep the others from being written
    local have, ends = string.match(type(entry) == 'string' and entry or '', '^(%d+) (%d+) ')
    -- One whose end is past is none: Redis would have removed it if it were ours.
    if not have or tonumber(ends) <= now or tonumber(have) <= tonumber(version) then
        local expires = string.format('%.0f', now + life)
        redis.call('SET', KEYS[i], version .. ' ' .. expires .. ' ' .. data, 'PXAT', expires)
    else
        refused[#refused + 1] = i - 1
    end
    highest = math.max(highest, tonumber(version))
end
if highest > (tonumber(redis.call('GET', KEYS[1]) or '') or 0) then
    redis.call('SET', KEYS[1], string.format('%.0f', highest))
end
return refused
