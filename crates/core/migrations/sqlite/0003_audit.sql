-- What callers did that operators must be able to trace: replays, looks at the tasks of others.
CREATE TABLE audit (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The clock of the database, in milliseconds since 1970.
    at_ms    INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
    caller   TEXT    NOT NULL CHECK (length(caller) BETWEEN 1 AND 128),
    -- Where the request came from; NULL at the command line.
    address  TEXT    CHECK (length(address) BETWEEN 1 AND 45),
    action   TEXT    NOT NULL CHECK (length(action) BETWEEN 1 AND 64),
    -- What was acted on, such as the id of a task.
    subject  TEXT    CHECK (length(subject) BETWEEN 1 AND 128),
    detail   TEXT    CHECK (length(detail) BETWEEN 1 AND 1024),
    trace_id TEXT    CHECK (length(trace_id) = 32)
) STRICT;
CREATE INDEX audit_by_time ON audit (at_ms, id);
