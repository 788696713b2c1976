-- Enqueues a task, unless its id has a record already. A task that is made from an entry of another stream takes its
-- place: the entry is acknowledged and deleted.
-- KEYS: record, stream, last request, delayed, bytes; with 'drop' the mark of skipped requests; with a source its stream
-- ARGV: id, payload, traceparent or '', group, capacity in bytes, when full: 'refuse' | 'drop' | 'exceed',
--   group and entry of the source or nothing
-- Returns {'created' | 'known' | 'full' | 'dropped', number of the request}.
local record, stream, when_full = KEYS[1], KEYS[2], ARGV[6]
local function take_place_of_source()
    if ARGV[7] then
        redis.call('XACK', KEYS[6], ARGV[7], ARGV[8])
        redis.call('XDEL', KEYS[6], ARGV[8])
    end
end
local known = redis.call('HGET', record, 'number')
if known then
    take_place_of_source()
    return {'known', tonumber(known)}
end

local size = task_size(#ARGV[2], #ARGV[3])
local waiting = tonumber(redis.call('HGET', KEYS[5], 'waiting') or '0')
if when_full ~= 'exceed' and waiting + size > tonumber(ARGV[5]) then
    local length = redis.call('XLEN', stream)
    if length + redis.call('ZCARD', KEYS[4]) == 0 then
        redis.call('HDEL', KEYS[5], 'waiting') -- nothing waits: records were deleted by hand
    elseif when_full == 'refuse' then
        return {'full', 0}
    else
        -- A task that no worker has begun will see the mark, and cover every request up to it. One that was begun may
        -- have looked at the mark already.
        local pending = redis.pcall('XPENDING', stream, ARGV[4])
        if length > (pending.err and 0 or pending[1]) then
            local request = redis.call('INCR', KEYS[3])
            redis.call('SET', KEYS[6], math.max(request, number(KEYS[6])))
            return {'dropped', request}
        end
    end
end

local request = redis.call('INCR', KEYS[3])
local traceparent = ARGV[3] ~= '' and {'traceparent', ARGV[3]} or {}
make_ready(record, stream, ARGV[1], 'number', request, 'payload', ARGV[2], 'created_at', now(), 'attempts', 0, 'retries',
    0, unpack(traceparent))
count_bytes(KEYS[5], 'waiting', size)
take_place_of_source()
return {'created', request}
