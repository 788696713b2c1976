-- Functions that the scripts share; put in front of each.

-- The clock of Redis, in ms since 1970.
local function now()
    local time = redis.call('TIME')
    return string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
end

-- Makes a task ready to run. A task without a record is left alone: there is nothing to run.
local function make_ready(record, stream, id)
    if redis.call('HEXISTS', record, 'payload') == 0 then
        return
    end
    local entry = redis.call('XADD', stream, '*', 'task', id)
    redis.call('HSET', record, 'state', 'queued', 'entry', entry, 'deliveries', 0, 'ready_at', now())
end
