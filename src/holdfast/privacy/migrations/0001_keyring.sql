-- The keys of owners, and the erasures that destroyed some of them.
--
-- No trace of a wrapped key may stay in the file once it is destroyed. A deleted row can leave one: when its page is
-- divided, or joined with another, copies stay in what becomes free. So rows of keys are never deleted and never change
-- their length: numbers only rise, which appends pages without dividing any, and a destroyed key is overwritten in its
-- place by as many zeros.

CREATE TABLE keys (
    number  INTEGER PRIMARY KEY,
    owner   TEXT NOT NULL,
    made_us INTEGER NOT NULL,
    wrapped BLOB NOT NULL       -- nonce, data key and tag: 60 bytes, or 60 zeros
) STRICT;

CREATE INDEX keys_by_owner ON keys (owner, number);

CREATE TABLE destroyed (        -- in the order in which that happened, for those who keep keys in memory
    n      INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    at_us  INTEGER NOT NULL
) STRICT;

CREATE TABLE master (           -- one row: which master key wraps the keys
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    fingerprint TEXT NOT NULL
) STRICT;

CREATE TABLE erasures (
    n           INTEGER PRIMARY KEY,
    subject     TEXT NOT NULL,  -- its keyed hash
    at_us       INTEGER NOT NULL,
    key         INTEGER,        -- the number of the key that was destroyed
    scrubbed_us INTEGER,        -- when no trace of the key was left in the file
    done_us     INTEGER,
    UNIQUE (subject, at_us)
) STRICT;

CREATE INDEX erasures_pending ON erasures (n) WHERE done_us IS NULL;

CREATE TABLE findings (         -- what an erasure found where
    erasure     INTEGER NOT NULL REFERENCES erasures (n),
    store       TEXT NOT NULL,
    found       INTEGER NOT NULL,
    tries       INTEGER NOT NULL,
    done        INTEGER NOT NULL,
    PRIMARY KEY (erasure, store)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (         -- what workers had in memory, and have dropped
    erasure INTEGER NOT NULL,
    worker  TEXT NOT NULL,
    found   INTEGER NOT NULL,
    at_us   INTEGER NOT NULL,
    PRIMARY KEY (erasure, worker)
) STRICT, WITHOUT ROWID;
