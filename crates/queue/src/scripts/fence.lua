-- Put in front of scripts that take a fence (`Fence::script`).
-- KEYS: record of the task, last request; ARGV: lease, number of the task's request, task id
local request, task_id = tonumber(ARGV[2]), ARGV[3]

-- Whether the run that holds the fence is still the current run of its task.
local function is_current()
    return redis.call('HGET', KEYS[1], 'lease') == ARGV[1]
end

-- The number of the latest request.
local function last_request()
    return tonumber(redis.call('GET', KEYS[2]) or '0')
end
