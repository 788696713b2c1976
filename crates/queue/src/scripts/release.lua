-- Releases entries of a consumer that were fetched and not begun: their tasks are ready for others at once, with the
-- deliveries before this one.
-- KEYS: stream; ARGV: group, consumer, prefix of records, then the entries
local stream, group = KEYS[1], ARGV[1]
for i = 4, #ARGV do
    local entry = ARGV[i]
    local pending = redis.call('XPENDING', stream, group, entry, entry, 1, ARGV[2])[1]
    local message = pending and redis.call('XRANGE', stream, entry, entry)[1]
    if message then
        redis.call('XACK', stream, group, entry)
        redis.call('XDEL', stream, entry)
        local id = message[2][2]
        local record = ARGV[3] .. id
        local current, lease, deliveries = unpack(redis.call('HMGET', record, 'entry', 'lease', 'deliveries'))
        if current == entry then
            if lease and not is_given_here(lease) then
                deliveries = deliveries - 1 -- Redis failed over or restarted during the run
            end
            redis.call('HDEL', record, 'lease')
            make_ready_again(record, stream, id)
            redis.call('HSET', record, 'deliveries', deliveries)
        end
    end
end
