-- Begins runs of delivered entries. Each entry is treated as if it were the only one.
-- KEYS: stream, then the record of each entry
-- ARGV: group, consumer, max deliveries, 'alone' for one entry while nothing else runs on the consumer, else '', maximum
--   of bytes of payloads, then entry and lease of each
-- Returns for each entry, but for those after the one that exceeds the maximum, {outcome, record}. The record is empty
-- but for the first two:
--   run:      the run has begun
--   poisoned: it has begun and is not to be run: the task was delivered too often
--   suspect:  nothing has begun: this delivery is the task's last, and must be begun alone
--   gone:     another consumer has taken the entry over, or it is not its task's current one and was removed
--   damaged:  nothing has begun: the key of the record holds something else
-- The record: number, attempts, retries, payload, error, traceparent, created_at, ready_at, started_at.
local stream, group, consumer, most, is_alone = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == 'alone'
local time = now()

-- The entries that this consumer has. Those of a batch lie side by side as a rule, so one command finds them.
local had = {}
local function look_up(first, last, limit)
    for _, pending in ipairs(redis.call('XPENDING', stream, group, first, last, limit, consumer)) do
        had[pending[1]] = true
    end
end
look_up(ARGV[6], ARGV[#ARGV - 1], #KEYS - 1)

local function begin(record, entry, lease)
    if not had[entry] then
        look_up(entry, entry, 1)
    end
    if not had[entry] then
        return 'gone'
    end
    local fields = read('HMGET', record, 'state', 'entry', 'lease', 'deliveries', 'done', 'number', 'attempts',
        'retries', 'payload', 'error', 'traceparent', 'created_at', 'ready_at', 'started_at')
    if not fields then
        return 'damaged'
    end
    local state, current, before, deliveries, done = unpack(fields, 1, 5)
    if current ~= entry or (state ~= 'queued' and state ~= 'running') then
        redis.call('XACK', stream, group, entry)
        redis.call('XDEL', stream, entry)
        return 'gone'
    end
    -- An earlier run did not end its worker if that is this one, or if Redis failed over or restarted during the run.
    -- Then this is the same delivery.
    local is_innocent = before
        and (not is_given_here(before) or string.sub(before, 1, #consumer + 1) == consumer .. ':')
    deliveries = math.max(1, (tonumber(deliveries) or 0) + (is_innocent and 0 or 1))
    if deliveries == most and not is_alone then
        return 'suspect'
    end
    local begun = {unpack(fields, 6, 14)}
    if deliveries > most then
        redis.call('HSET', record, 'state', 'running', 'lease', given_here(lease), 'deliveries', deliveries)
        return 'poisoned', begun
    end
    -- A number that is damaged stays as it is: the worker refuses the record.
    local attempts = tonumber(begun[2] or '0')
    begun[2] = attempts and string.format('%d', attempts + 1) or begun[2]
    begun[9] = time
    redis.call('HSET', record, 'state', 'running', 'lease', given_here(lease), 'deliveries', deliveries,
        'attempts', begun[2], 'started_at', time)
    if done then
        redis.call('HDEL', record, 'done', 'total')
    end
    return 'run', begun
end

local replies, bytes_left = {}, tonumber(ARGV[5])
for i = 2, #KEYS do
    local outcome, record = begin(KEYS[i], ARGV[2 * i + 2], ARGV[2 * i + 3])
    replies[i - 1] = {outcome, record or {}}
    bytes_left = bytes_left - #(record and record[4] or '')
    if bytes_left < 0 then
        break
    end
end
return replies
