-- Ends a run that could not be finished here: the task is ready again at once.
-- KEYS: record, stream; ARGV: group, lease, id
-- Returns 0 when the lease is not current any more.
if not end_run(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) then
    return 0
end
make_ready(KEYS[1], KEYS[2], ARGV[3])
return 1
