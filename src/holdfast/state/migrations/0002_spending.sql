-- Amounts are requests, tokens or billionths of a US dollar; times are seconds since 1970 UTC.

CREATE TABLE windows (
    id INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,  -- "key", "tenant" or "feature"
    whose TEXT NOT NULL,
    unit TEXT NOT NULL,
    span TEXT NOT NULL,  -- "min", "h", "day", "month" or "total"
    start INTEGER NOT NULL,
    drawn INTEGER NOT NULL,  -- what was used, and what workers hold to use
    UNIQUE (scope, whose, unit, span, start)
);

CREATE TABLE leases (
    holder TEXT NOT NULL,  -- the worker, by the name of its file in leases/
    number INTEGER NOT NULL,  -- by which that file says how much of it was used
    window INTEGER NOT NULL REFERENCES windows (id),
    granted INTEGER NOT NULL,  -- the part of `drawn` that this worker holds or has used
    PRIMARY KEY (holder, number)
) WITHOUT ROWID;
CREATE INDEX leases_window ON leases (window);
