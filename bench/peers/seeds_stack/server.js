// SPDX-License-Identifier: Apache-2.0
// The stack that Ciranda replaces, as a peer for bench/run: Express, a Redis lock for each conversation, a deduplication key,
// Redis Streams for the events, PostgreSQL for what must last. It answers the same route with the same members, so that the
// same load drives both.
//
//   trace id -> dedup key and lock (one round trip) -> route -> one durable statement in PostgreSQL (the message, its routing
//   and its reply, versions dense) -> events into the streams, lock released by its Lua script (one round trip) -> answer
//
// Kinder to the stack than the documents that describe it: the whole turn runs under the lock and in the process that took the
// request, without the hops through consumer groups; dedup is one atomic SET NX instead of EXISTS and SETEX; the owner of a lock
// is unique; commands that do not depend on each other share a round trip; a turn is one statement and one flush. What it cannot
// have is kept: a lock that is polled, a lock and streams as durable as Redis' appendfsync, three systems on the way.
//
// Environment: REDIS_PORT, PG_SOCKET (directory), PG_PORT, PG_USER, PORT, PROCESSES. Prints one JSON line when all listen.
'use strict';

const cluster = require('node:cluster');
const { randomUUID } = require('node:crypto');

const LOCK_TTL_MS = 30000;
const LOCK_RETRY_MS = 100;
const LOCK_RETRIES = 50;
const DEDUP_TTL_S = 3600;
const STREAM_ENTRIES_MAX = 1000000;
const TEXT_BYTES_MAX = 32768;

const UNLOCK = `if redis.call("get", KEYS[1]) == ARGV[1] then return redis.call("del", KEYS[1]) else return 0 end`;

// One statement, so one commit and one flush: the conversation's version rises by three, and those are the events'.
const SAVE_TURN = {
  name: 'save-turn',
  text: `WITH conversation AS (
           INSERT INTO conversations (id, version) VALUES ($1, 3)
           ON CONFLICT (id) DO UPDATE SET version = conversations.version + 3 RETURNING version)
         INSERT INTO events (conversation_id, version, event, event_id, trace_id, idempotency_key, payload)
         SELECT $1, version - 2, 'inbox.message.received', $2::uuid, $5, $6, $7::jsonb FROM conversation
         UNION ALL SELECT $1, version - 1, 'routing.handoff.requested', $3::uuid, $5, NULL, $8::jsonb FROM conversation
         UNION ALL SELECT $1, version, 'agent.ai.response.generated', $4::uuid, $5, NULL, $9::jsonb FROM conversation
         RETURNING version`,
};

const FIND_TURN = {
  name: 'find-turn',
  text: `SELECT r.version, r.payload->>'response' AS text FROM events m
         JOIN events r ON r.conversation_id = m.conversation_id AND r.version = m.version + 2
         WHERE m.conversation_id = $1 AND m.idempotency_key = $2`,
};

const FIND_CONVERSATION = { name: 'find-conversation', text: 'SELECT status, queue FROM conversations WHERE id = $1' };

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Stack {
  constructor(redis, database) {
    this.redis = redis;
    this.database = database;
    this.worker = `dispatcher:${process.pid}:${randomUUID()}`;
    this.count = 0;
  }

  // Returns the lock's token, or null after five seconds of asking.
  async acquireLock(conversation, first) {
    const key = `lock:conversation:${conversation}`;
    if (first.result === 'OK') return first.token;
    for (let i = 0; i < LOCK_RETRIES; i++) {
      await sleep(LOCK_RETRY_MS);
      if ((await this.redis.set(key, first.token, 'PX', LOCK_TTL_MS, 'NX')) === 'OK') return first.token;
    }
    return null;
  }

  async route(conversation) {
    const { rows } = await this.database.query(FIND_CONVERSATION, [conversation]);
    if (rows.length === 0 || rows[0].status === 'bot') return 'agent.ai';
    return rows[0].queue ? `agent.queue.${rows[0].queue}` : 'agent.triage';
  }

  async takeTurn(conversation, message, traceId) {
    const dedupKey = `dedup:msg:${conversation}:${message.id}`;
    const token = `${this.worker}:${this.count++}`;
    const [[, isNew], [, locked]] = await this.redis
      .pipeline()
      .set(dedupKey, traceId, 'EX', DEDUP_TTL_S, 'NX')
      .set(`lock:conversation:${conversation}`, token, 'PX', LOCK_TTL_MS, 'NX')
      .exec();
    const lock = await this.acquireLock(conversation, { result: locked, token });
    if (lock === null) {
      if (isNew === 'OK') await this.redis.del(dedupKey); // or the copy that comes again would be swallowed
      return { status: 503 };
    }
    try {
      if (isNew !== 'OK') {
        const { rows } = await this.database.query(FIND_TURN, [conversation, message.id]);
        if (rows.length > 0) return this.answer(conversation, message, traceId, rows[0].version, rows[0].text, true);
      }
      return await this.runTurn(conversation, message, traceId, lock);
    } finally {
      if (!message.isUnlocked) await this.redis.unlock(`lock:conversation:${conversation}`, lock);
    }
  }

  async runTurn(conversation, message, traceId, lock) {
    const agent = await this.route(conversation);
    const ids = [randomUUID(), randomUUID(), randomUUID()];
    const payloads = [
      JSON.stringify({ messageId: message.id, body: message.text, mediaType: 'chat', fromMe: false }),
      JSON.stringify({ toAgent: agent, reason: 'message_received' }),
      JSON.stringify({ agentId: 'echo', response: message.text, tokensUsed: 0, duration: 0 }),
    ];
    const { rows } = await this.database.query({ ...SAVE_TURN, values: [conversation, ...ids, traceId, message.id, ...payloads] });
    const version = rows.reduce((most, row) => Math.max(most, Number(row.version)), 0);
    const names = ['inbox.message.received', 'routing.handoff.requested', 'agent.ai.response.generated'];
    const pipeline = this.redis.pipeline();
    names.forEach((event, i) => {
      const envelope = {
        event, event_id: ids[i], trace_id: traceId, tenant_id: 'default', conversation_id: conversation,
        idempotency_key: i === 0 ? message.id : `${event}:${message.id}`, timestamp: new Date().toISOString(),
      };
      const data = `${JSON.stringify(envelope).slice(0, -1)},"payload":${payloads[i]}}`;
      pipeline.xadd(`stream:${event}`, 'MAXLEN', '~', STREAM_ENTRIES_MAX, '*', 'data', data);
    });
    pipeline.unlock(`lock:conversation:${conversation}`, lock);
    await pipeline.exec();
    message.isUnlocked = true;
    return this.answer(conversation, message, traceId, version, message.text, false);
  }

  answer(conversation, message, traceId, version, text, duplicate) {
    return {
      status: 200,
      body: {
        conversation_id: conversation, message_id: message.id, turn_id: traceId, version: Number(version), duplicate,
        status: 'completed', reply: { text, agent: 'echo' }, trace_id: traceId, duration_ms: Date.now() - message.at,
      },
    };
  }
}

function refuse(response, status, detail) {
  response.status(status).type('application/problem+json').send(JSON.stringify({ title: 'refused', status, detail }));
}

function makeApplication(express, stack) {
  const application = express();
  application.disable('x-powered-by');
  application.set('etag', false);
  application.use((request, response, next) => {
    request.traceId = request.get('x-trace-id') || randomUUID();
    response.set('X-Trace-Id', request.traceId);
    next();
  });
  application.use(express.json({ limit: '64kb' }));
  application.post('/v1/conversations/:id/messages', async (request, response) => {
    const { text, message_id: id } = request.body || {};
    if (typeof text !== 'string' || text.length === 0 || Buffer.byteLength(text) > TEXT_BYTES_MAX)
      return refuse(response, 400, 'text');
    if (id !== undefined && (typeof id !== 'string' || id.length === 0 || id.length > 128)) return refuse(response, 400, 'message_id');
    const message = { id: id || randomUUID(), text, at: Date.now(), isUnlocked: false };
    const turn = await stack.takeTurn(request.params.id, message, request.traceId);
    if (turn.status !== 200) return refuse(response.set('Retry-After', '1'), turn.status, 'the conversation is busy');
    response.json(turn.body);
  });
  return application;
}

async function serve() {
  const Redis = require('ioredis');
  const { Pool } = require('pg');
  const express = require('express');
  const redis = new Redis({ port: Number(process.env.REDIS_PORT), host: '127.0.0.1' });
  redis.defineCommand('unlock', { numberOfKeys: 1, lua: UNLOCK });
  const database = new Pool({
    host: process.env.PG_SOCKET, port: Number(process.env.PG_PORT), user: process.env.PG_USER, database: 'postgres', max: 24,
  });
  await database.query('SELECT 1');
  makeApplication(express, new Stack(redis, database)).listen(Number(process.env.PORT), '127.0.0.1', () => process.send('ready'));
}

function lead() {
  const processes = Number(process.env.PROCESSES || 2);
  let ready = 0;
  for (let i = 0; i < processes; i++) {
    cluster.fork().on('message', () => {
      if (++ready === processes)
        console.log(JSON.stringify({ event: 'listening', http: `127.0.0.1:${process.env.PORT}` }));
    });
  }
  cluster.on('exit', () => process.exit(1)); // a worker that ends on its own has failed
  process.on('SIGTERM', () => process.exit(0));
}

if (cluster.isPrimary) lead();
else serve();
