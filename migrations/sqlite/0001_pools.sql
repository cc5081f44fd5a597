-- Definitions of pools, and the number of the broker's present start.
-- Migrations only add, so that an older broker can still read what a newer one has migrated.

CREATE TABLE pools (
    name TEXT PRIMARY KEY,
    -- The definition's proto-JSON.
    spec TEXT NOT NULL CHECK (json_valid(spec)),
    -- Rises by one with every update.
    revision INTEGER NOT NULL,
    -- Microseconds since 1970, UTC.
    create_time_us INTEGER NOT NULL,
    update_time_us INTEGER NOT NULL
) STRICT;

CREATE TABLE broker (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Rises by one with every start; the high bits of every fence.
    boot INTEGER NOT NULL
) STRICT;
