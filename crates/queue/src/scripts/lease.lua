-- Ends the run of a lease: the task's entry leaves the stream. False when the lease is not current any
-- more, because the run was taken over.
local function end_run(record, stream, group, lease)
    if redis.call('HGET', record, 'lease') ~= lease then
        return false
    end
    local entry = redis.call('HGET', record, 'entry')
    redis.call('XACK', stream, group, entry)
    redis.call('XDEL', stream, entry)
    redis.call('HDEL', record, 'lease', 'entry')
    return true
end

-- Makes a task ready to run. One whose record is gone is left alone: there is nothing to run.
local function make_ready(record, stream, id)
    if redis.call('HEXISTS', record, 'payload') == 0 then
        return
    end
    local entry = redis.call('XADD', stream, '*', 'task', id)
    redis.call('HSET', record, 'state', 'queued', 'entry', entry, 'deliveries', 0, 'ready_at', now())
end
