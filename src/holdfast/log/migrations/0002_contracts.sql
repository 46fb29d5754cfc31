-- What contracts and consistency bring: how an answer came to meet its contract, and what it agrees with.

ALTER TABLE profiles ADD COLUMN contract TEXT;  -- its name; "request" where it came with the call

ALTER TABLE call_rows ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call_rows ADD COLUMN replayed TEXT;  -- calls.id of the call whose answer was given again
ALTER TABLE call_rows ADD COLUMN samples INTEGER;
ALTER TABLE call_rows ADD COLUMN agreement REAL;  -- the share of the samples that agree with the answer
CREATE INDEX calls_repaired ON call_rows (at_us) WHERE repairs > 0;
CREATE INDEX calls_replayed ON call_rows (at_us) WHERE replayed IS NOT NULL;

ALTER TABLE other_attempts ADD COLUMN saved_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE other_attempts ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0;  -- whether its server broke a constraint it had accepted

DROP VIEW attempts;
DROP VIEW calls;

CREATE VIEW calls AS  -- LEFT JOIN: profiles are looked up after all else, and not at all where no column needs them
SELECT
    r.seq, r.id, r.at_us, p.kind, p.wire, p.name, p.feature, p.model, p.provider, p.served_model, p.fingerprint,
    p.config, p.outcome, p.status, r.error, r.message, p.finish, p.stream, p.store, r.duration_us, r.first_token_us,
    r.session, r.subject, r.tags, r.cost_nanousd, r.input_tokens, r.output_tokens, r.cache_read_tokens,
    r.cache_write_tokens, r.reasoning_tokens, r.input_audio_tokens, r.output_audio_tokens, r.only_started_us,
    r.only_duration_us, r.only_first_token_us, r.only_provider_status, r.only_estimated, r.block, r.place,
    p.contract, r.repairs, r.replayed, r.samples, r.agreement
FROM call_rows AS r
LEFT JOIN profiles AS p ON p.number = r.profile;

CREATE VIEW attempts AS
SELECT
    seq AS call, 0 AS n, at_us, model, provider, only_started_us AS started_us, only_duration_us AS duration_us,
    only_first_token_us AS first_token_us, served_model, only_provider_status AS provider_status, NULL AS error,
    NULL AS message, cost_nanousd, 'first' AS reason, only_estimated AS estimated, 0 AS saved_tokens, 0 AS ignored,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    reasoning_tokens, input_audio_tokens, output_audio_tokens
FROM calls
WHERE only_started_us IS NOT NULL
UNION ALL
SELECT
    o.call, o.n, c.at_us, o.model, o.provider, o.started_us, o.duration_us,
    o.first_token_us, o.served_model, o.provider_status, o.error,
    o.message, o.cost_nanousd, o.reason, o.estimated, o.saved_tokens, o.ignored,
    o.input_tokens, o.output_tokens, o.cache_read_tokens, o.cache_write_tokens,
    o.reasoning_tokens, o.input_audio_tokens, o.output_audio_tokens
FROM other_attempts AS o
JOIN call_rows AS c ON c.seq = o.call;

CREATE TABLE fingerprint_changes (  -- a provider began to serve a model under another name or fingerprint
    model TEXT NOT NULL,
    provider TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    "before" TEXT NOT NULL,  -- served name and fingerprint
    "after" TEXT NOT NULL,
    PRIMARY KEY (at_us, model, provider, "before", "after")
) WITHOUT ROWID;

ALTER TABLE totals ADD COLUMN repaired INTEGER NOT NULL DEFAULT 0;  -- calls whose answer needed repairs
ALTER TABLE totals ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN replayed INTEGER NOT NULL DEFAULT 0;  -- calls whose answer was given again

ALTER TABLE attempt_totals ADD COLUMN reasks INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt_totals ADD COLUMN saved_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt_totals ADD COLUMN ignored INTEGER NOT NULL DEFAULT 0;
