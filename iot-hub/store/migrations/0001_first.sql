-- Schema 1. Documents are JSON in TEXT; times are milliseconds since the Unix epoch.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BIGINT NOT NULL);
CREATE TABLE log (revision BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, change TEXT NOT NULL);
CREATE TABLE device (id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE deployment (uid TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE device_set (device TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE assignment (uid TEXT NOT NULL, device TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (uid, device));
CREATE TABLE blob (digest TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE device_event (
    device TEXT NOT NULL, seq BIGINT NOT NULL, uid TEXT NOT NULL, at_ms BIGINT NOT NULL, event TEXT NOT NULL,
    PRIMARY KEY (device, seq)
);
CREATE INDEX device_event_by_uid ON device_event (uid, at_ms);
CREATE INDEX device_event_by_time ON device_event (at_ms);
CREATE TABLE api_token (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL, principal TEXT NOT NULL, scope TEXT NOT NULL, created_ms BIGINT NOT NULL
);
CREATE TABLE enrolment_token (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL, device_group TEXT NOT NULL, tags TEXT NOT NULL, link TEXT NOT NULL,
    uses BIGINT NOT NULL, used BIGINT NOT NULL, expires_ms BIGINT NOT NULL, device TEXT
);
CREATE TABLE enrolment (
    token TEXT NOT NULL, key_fingerprint TEXT NOT NULL, device TEXT NOT NULL, serial TEXT NOT NULL,
    certificate_chain TEXT NOT NULL, sealing_key TEXT NOT NULL, sealing_proof TEXT NOT NULL, previous TEXT,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (token, key_fingerprint)
);
CREATE TABLE audit (
    id BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, principal TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL
);
