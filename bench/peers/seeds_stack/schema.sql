-- SPDX-License-Identifier: Apache-2.0
-- Tables of the peer (server.js): a conversation with its version, and its events in that order.
CREATE TABLE conversations (
    id      text PRIMARY KEY,
    version bigint NOT NULL,
    status  text NOT NULL DEFAULT 'bot',
    queue   text
);
CREATE TABLE events (
    conversation_id text NOT NULL,
    version         bigint NOT NULL,
    event           text NOT NULL,
    event_id        uuid NOT NULL,
    trace_id        text NOT NULL,
    idempotency_key text,
    at              timestamptz NOT NULL DEFAULT now(),
    payload         jsonb NOT NULL,
    PRIMARY KEY (conversation_id, version)
);
CREATE UNIQUE INDEX events_once ON events (conversation_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
