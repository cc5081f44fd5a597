-- Definitions of pools, and the number of the broker's present start.
-- Migrations only add, so that an older broker can still read what a newer one has migrated.

CREATE TABLE pools (
    -- Sorted by bytes, as SQLite does, whatever the database's locale.
    name text COLLATE "C" PRIMARY KEY,
    spec jsonb NOT NULL,
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

COMMENT ON TABLE pools IS 'Definitions of pools. Change them through PoolService: the broker reads this table at start only.';
COMMENT ON COLUMN pools.spec IS 'The definition''s proto-JSON.';
COMMENT ON COLUMN pools.revision IS 'Rises by one with every update.';

CREATE TABLE broker (
    id smallint PRIMARY KEY CHECK (id = 1),
    boot bigint NOT NULL
);

COMMENT ON COLUMN broker.boot IS 'Rises by one with every start; the high bits of every fence.';
