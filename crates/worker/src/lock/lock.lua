-- The lock; put in front of its scripts. Its key has a TTL, so a Redis that is out of memory may evict it. What it held
-- stands in a second key without a TTL, with the time at which it expires, and counts until then.

-- Gives the lock to a holder.
local function hold(lock, kept, value, ttl)
    redis.call('SET', lock, value, 'PX', ttl)
    redis.call('SET', kept, string.format('%d', now() + ttl) .. ' ' .. value)
end

-- What the lock holds, nil when it is free.
local function holder(lock, kept)
    local value = redis.call('GET', lock)
    if value then
        return value
    end
    local expires, evicted = string.match(redis.call('GET', kept) or '', '^(%d+) (.*)$')
    if expires and tonumber(expires) > tonumber(now()) then
        return evicted
    end
    return nil
end

local function free(lock, kept)
    return redis.call('DEL', lock, kept)
end
