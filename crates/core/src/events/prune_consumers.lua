-- Removes listeners from the group that hold no entries, which would go with them: the named one, and those
-- that have been silent for long.
-- KEYS[1] log; ARGV: group, listener or '', silence in ms
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local _, name, _, pending, _, idle = unpack(info)
    if pending == 0 and (name == ARGV[2] or idle > tonumber(ARGV[3])) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
    end
end
