-- Times are microseconds since 1970 UTC or durations in microseconds, money is in billionths of a US dollar.

CREATE TABLE profiles (  -- what many calls have in common
    number INTEGER PRIMARY KEY,
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
    store TEXT NOT NULL
);
CREATE INDEX profiles_name ON profiles (name, config);

CREATE TABLE call_rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of recording; never used again after an erasure
    profile INTEGER NOT NULL,  -- profiles.number
    block INTEGER,  -- body_blocks.number
    place INTEGER,  -- in the block, from 0
    id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
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
    only_started_us INTEGER,  -- of the only attempt, where the call tells everything else about it
    only_duration_us INTEGER,
    only_first_token_us INTEGER,
    only_provider_status INTEGER,
    only_estimated INTEGER,
    error TEXT,
    message TEXT,
    session TEXT,
    subject TEXT,
    tags TEXT  -- a JSON object
);
CREATE UNIQUE INDEX calls_id ON call_rows (id);
CREATE INDEX calls_at ON call_rows (at_us);
CREATE INDEX calls_error ON call_rows (error, at_us) WHERE error IS NOT NULL;
CREATE INDEX calls_session ON call_rows (session, at_us) WHERE session IS NOT NULL;
CREATE INDEX calls_subject ON call_rows (subject, at_us) WHERE subject IS NOT NULL;

CREATE VIEW calls AS  -- LEFT JOIN: profiles are looked up after all else, and not at all where no column needs them
SELECT
    r.seq, r.id, r.at_us, p.kind, p.wire, p.name, p.feature, p.model, p.provider, p.served_model, p.fingerprint,
    p.config, p.outcome, p.status, r.error, r.message, p.finish, p.stream, p.store, r.duration_us, r.first_token_us,
    r.session, r.subject, r.tags, r.cost_nanousd, r.input_tokens, r.output_tokens, r.cache_read_tokens,
    r.cache_write_tokens, r.reasoning_tokens, r.input_audio_tokens, r.output_audio_tokens, r.only_started_us,
    r.only_duration_us, r.only_first_token_us, r.only_provider_status, r.only_estimated, r.block, r.place
FROM call_rows AS r
LEFT JOIN profiles AS p ON p.number = r.profile;

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
    reason TEXT NOT NULL,  -- why it was made
    estimated INTEGER NOT NULL,  -- whether the tokens were counted here, because the provider told none
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
    NULL AS message, cost_nanousd, 'first' AS reason, only_estimated AS estimated, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, input_audio_tokens, output_audio_tokens
FROM calls
WHERE only_started_us IS NOT NULL
UNION ALL
SELECT
    o.call, o.n, c.at_us, o.model, o.provider, o.started_us, o.duration_us,
    o.first_token_us, o.served_model, o.provider_status, o.error,
    o.message, o.cost_nanousd, o.reason, o.estimated, o.input_tokens, o.output_tokens, o.cache_read_tokens, o.cache_write_tokens,
    o.reasoning_tokens, o.input_audio_tokens, o.output_audio_tokens
FROM other_attempts AS o
JOIN call_rows AS c ON c.seq = o.call;

CREATE TABLE body_blocks (  -- the bodies of calls of one subject, or of none
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again after an erasure
    codec TEXT NOT NULL,  -- how `data` is packed: "msgpack+zstd"
    data BLOB NOT NULL  -- a list of [request, reply], one for each call
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
