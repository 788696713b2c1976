-- The clock of Redis, in ms since 1970.
local function now()
    local time = redis.call('TIME')
    return string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
end
