-- Ends a run with a result. KEYS: record, stream; ARGV: group, lease, result, retention in ms
-- Returns 0 when the lease is not current any more.
if not end_run(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], 'state', 'succeeded', 'result', ARGV[3], 'finished_at', now())
redis.call('HDEL', KEYS[1], 'error')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
