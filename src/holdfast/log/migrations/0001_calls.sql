-- Times are microseconds since 1970 UTC or durations in microseconds, money is in billionths of a US dollar.

CREATE TABLE calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of recording; never used again after an erasure
    id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    kind TEXT NOT NULL,
    wire TEXT NOT NULL,
    name TEXT NOT NULL,
    feature TEXT,
    model TEXT,
    provider TEXT,
    served_model TEXT,
    fingerprint TEXT,
    config TEXT NOT NULL,
    outcome TEXT NOT NULL,
    status INTEGER NOT NULL,
    error TEXT,
    message TEXT,
    finish TEXT,
    stream INTEGER NOT NULL,
    store TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    first_token_us INTEGER,
    session TEXT,
    subject TEXT,
    tags TEXT,  -- a JSON object
    cost_nanousd INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    input_audio_tokens INTEGER,
    output_audio_tokens INTEGER
);
CREATE UNIQUE INDEX calls_id ON calls (id);
CREATE INDEX calls_at ON calls (at_us);
CREATE INDEX calls_error ON calls (error, at_us) WHERE error IS NOT NULL;
CREATE INDEX calls_session ON calls (session, at_us) WHERE session IS NOT NULL;
CREATE INDEX calls_subject ON calls (subject, at_us) WHERE subject IS NOT NULL;

CREATE TABLE attempts (
    call INTEGER NOT NULL,  -- calls.seq
    n INTEGER NOT NULL,  -- from 0
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    started_us INTEGER NOT NULL,  -- from the start of the call
    duration_us INTEGER NOT NULL,
    first_token_us INTEGER,  -- from the start of the attempt
    served_model TEXT,
    provider_status INTEGER,
    error TEXT,
    message TEXT,
    cost_nanousd INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    input_audio_tokens INTEGER,
    output_audio_tokens INTEGER,
    PRIMARY KEY (call, n)
) WITHOUT ROWID;

CREATE TABLE bodies (
    call INTEGER PRIMARY KEY,  -- calls.seq
    request TEXT,  -- JSON
    reply TEXT  -- JSON
);

CREATE TABLE snapshots (
    hash TEXT PRIMARY KEY,
    at_us INTEGER NOT NULL,
    files TEXT NOT NULL  -- a JSON object: path to text
) WITHOUT ROWID;

CREATE TABLE totals (
    minute INTEGER NOT NULL,  -- since 1970 UTC; 0 holds the sums since the log began
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL,
    calls INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    bucket_0 INTEGER NOT NULL,  -- calls by duration, one column for each of DURATION_BOUNDS_S and one for the rest
    bucket_1 INTEGER NOT NULL,
    bucket_2 INTEGER NOT NULL,
    bucket_3 INTEGER NOT NULL,
    bucket_4 INTEGER NOT NULL,
    bucket_5 INTEGER NOT NULL,
    bucket_6 INTEGER NOT NULL,
    bucket_7 INTEGER NOT NULL,
    bucket_8 INTEGER NOT NULL,
    bucket_9 INTEGER NOT NULL,
    bucket_10 INTEGER NOT NULL,
    bucket_11 INTEGER NOT NULL,
    bucket_12 INTEGER NOT NULL,
    bucket_13 INTEGER NOT NULL,
    PRIMARY KEY (minute, name, model, outcome, error)
) WITHOUT ROWID;
