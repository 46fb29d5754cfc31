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
    finish TEXT,
    stream INTEGER NOT NULL,
    store TEXT NOT NULL,
    duration_us INTEGER NOT NULL,
    first_token_us INTEGER,
    cost_nanousd INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_read_tokens INTEGER,
    cache_write_tokens INTEGER,
    reasoning_tokens INTEGER,
    input_audio_tokens INTEGER,
    output_audio_tokens INTEGER,
    only_started_us INTEGER,  -- of the only attempt, where everything else about it stands above
    only_duration_us INTEGER,
    only_first_token_us INTEGER,
    only_provider_status INTEGER,
    error TEXT,
    message TEXT,
    session TEXT,
    subject TEXT,
    tags TEXT  -- a JSON object
);
CREATE UNIQUE INDEX calls_id ON calls (id);
CREATE INDEX calls_at ON calls (at_us);
CREATE INDEX calls_error ON calls (error, at_us) WHERE error IS NOT NULL;
CREATE INDEX calls_session ON calls (session, at_us) WHERE session IS NOT NULL;
CREATE INDEX calls_subject ON calls (subject, at_us) WHERE subject IS NOT NULL;

CREATE TABLE other_attempts (  -- those that the row of their call does not tell
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

CREATE VIEW attempts AS
SELECT
    seq AS call, 0 AS n, at_us, model, provider, only_started_us AS started_us, only_duration_us AS duration_us,
    only_first_token_us AS first_token_us, served_model, only_provider_status AS provider_status, NULL AS error,
    NULL AS message, cost_nanousd, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, input_audio_tokens, output_audio_tokens
FROM calls
WHERE only_started_us IS NOT NULL
UNION ALL
SELECT
    o.call, o.n, c.at_us, o.model, o.provider, o.started_us, o.duration_us,
    o.first_token_us, o.served_model, o.provider_status, o.error,
    o.message, o.cost_nanousd, o.input_tokens, o.output_tokens, o.cache_read_tokens, o.cache_write_tokens,
    o.reasoning_tokens, o.input_audio_tokens, o.output_audio_tokens
FROM other_attempts AS o
JOIN calls AS c ON c.seq = o.call;

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

CREATE TABLE attempt_totals (
    minute INTEGER NOT NULL,  -- of the arrival of the call; 0 holds the sums since the log began
    model TEXT NOT NULL,
    error TEXT NOT NULL,  -- empty where the attempts worked
    attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    PRIMARY KEY (minute, model, error)
) WITHOUT ROWID;
