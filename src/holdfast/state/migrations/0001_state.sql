-- Times are microseconds since 1970 UTC.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO meta VALUES ('version', 0);  -- grows with every change of a key, an account or a session; 0: there never was one

CREATE TABLE keys (
    number INTEGER PRIMARY KEY,  -- the order of creation
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    features TEXT NOT NULL,  -- a JSON array; an empty one stands for all
    limits TEXT NOT NULL,  -- a JSON array of objects
    created_us INTEGER NOT NULL,
    expires_us INTEGER,
    revoked_us INTEGER,
    successor TEXT,  -- keys.id
    digest BLOB NOT NULL  -- SHA-256 of the token
);

CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    tenant TEXT,
    created_us INTEGER NOT NULL,
    password TEXT NOT NULL  -- its hash, as a PHC string
);

CREATE TABLE sessions (
    digest BLOB PRIMARY KEY,  -- SHA-256 of the token
    account TEXT NOT NULL REFERENCES accounts (name),
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
);
CREATE INDEX sessions_account ON sessions (account);
