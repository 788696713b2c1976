-- Functions that the scripts share; put in front of each.

-- The clock of Redis, in ms since 1970: read once in a script.
local time_of_script
local function now()
    if not time_of_script then
        local time = redis.call('TIME')
        time_of_script = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
    end
    return time_of_script
end

-- The number in a key, 0 without one.
local function number(key)
    return tonumber(redis.call('GET', key) or '0')
end

-- The replication id of this Redis: a promotion and a restart give it a new one. Either may lose the latest writes.
local replication_id
local function this_redis()
    replication_id = replication_id
        or string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    return replication_id
end

-- What stands in Redis for a token that this Redis gave. It names the Redis, so it is current on no other.
local function given_here(token)
    return token .. '@' .. this_redis()
end

-- Whether this Redis gave what stands there.
local function is_given_here(value)
    return string.match(value, '@(%x+)$') == this_redis()
end

-- Reads a record; nil if its key holds something else. One key that somebody overwrote fails no other task's script.
local function read(command, record, ...)
    local reply = redis.pcall(command, record, ...)
    local problem = type(reply) == 'table' and reply.err
    if not problem then
        return reply
    elseif string.sub(problem, 1, 9) ~= 'WRONGTYPE' then
        error(reply)
    end
end

-- Whether the run with this lease is the current run of its task.
local function is_current(record, lease)
    return read('HGET', record, 'lease') == given_here(lease)
end

-- The bytes that a task takes in Redis: its payload, traceparent and error, and what its record and entry cost beside
-- them.
local function task_size(payload, traceparent)
    return 1024 + payload + traceparent
end

local function size_of(record)
    return task_size(redis.call('HSTRLEN', record, 'payload'), redis.call('HSTRLEN', record, 'traceparent'))
        + redis.call('HSTRLEN', record, 'error')
end

-- Adds to the bytes of the tasks that are 'waiting' for their end, or 'dead'.
local function count_bytes(bytes, list, change)
    if redis.call('HINCRBY', bytes, list, change) < 0 then
        redis.call('HSET', bytes, list, 0)
    end
end

-- Makes a task ready to run, and writes further fields of its record.
local function make_ready(record, stream, id, ...)
    local entry = redis.call('XADD', stream, '*', 'task', id)
    redis.call('HSET', record, 'state', 'queued', 'entry', entry, 'deliveries', 0, 'ready_at', now(), ...)
end

-- Makes a task ready to run again. One without a record is left alone: there is nothing to run.
local function make_ready_again(record, stream, id)
    if redis.call('HEXISTS', record, 'payload') == 1 then
        make_ready(record, stream, id)
    end
end
