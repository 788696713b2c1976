-- Renews the leases of running tasks.
-- KEYS: stream, then the record of each; ARGV: group, consumer, then entry and lease of each
-- Returns for each 1, or 0 when its lease is not current any more.
local current = {}
for i = 2, #KEYS do
    local entry, lease = ARGV[2 * i - 1], ARGV[2 * i]
    if is_current(KEYS[i], lease) then
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry, 'JUSTID')
        current[i - 1] = 1
    else
        current[i - 1] = 0
    end
end
return current
