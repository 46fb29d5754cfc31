-- What custody brings: whose key made a call, and what each key spent.

ALTER TABLE profiles ADD COLUMN tenant TEXT;
ALTER TABLE profiles ADD COLUMN key TEXT;
DROP INDEX profiles_name;
CREATE INDEX profiles_name ON profiles (name, key, config);

DROP VIEW calls;

CREATE VIEW calls AS  -- LEFT JOIN: profiles are looked up after all else, and not at all where no column needs them
SELECT
    r.seq, r.id, r.at_us, p.kind, p.wire, p.name, p.feature, p.model, p.provider, p.served_model, p.fingerprint,
    p.config, p.outcome, p.status, r.error, r.message, p.finish, p.stream, p.store, r.duration_us, r.first_token_us,
    r.session, r.subject, r.tags, r.cost_nanousd, r.input_tokens, r.output_tokens, r.cache_read_tokens,
    r.cache_write_tokens, r.reasoning_tokens, r.input_audio_tokens, r.output_audio_tokens, r.only_started_us,
    r.only_duration_us, r.only_first_token_us, r.only_provider_status, r.only_estimated, r.block, r.place,
    p.contract, r.repairs, r.replayed, r.samples, r.agreement, p.tenant, p.key
FROM call_rows AS r
LEFT JOIN profiles AS p ON p.number = r.profile;

CREATE TABLE spend (  -- sums over attempts
    day INTEGER NOT NULL,  -- of the arrival of the call, since 1970 UTC
    tenant TEXT NOT NULL,  -- empty for calls without a key
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    model TEXT NOT NULL,  -- of the attempt
    attempts INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_nanousd INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, key, name, model)
) WITHOUT ROWID;
