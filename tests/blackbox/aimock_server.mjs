// SPDX-License-Identifier: Apache-2.0
// An independent fake model server (npm: @copilotkit/aimock) with the misbehaviours that model_test.py asks for by the words
// of the last user message. Prints {"http":"host:port"} when it listens.
import { createRequire } from "node:module";
const require = createRequire(process.env.CIRANDA_NODE + "/");
const { LLMock } = require("@copilotkit/aimock");

const mock = new LLMock({ port: 0 });
let failuresLeft = 2;
mock.onMessage("cut", { content: "this answer is never finished because the wire is cut" }, { chunkSize: 4, truncateAfterChunks: 3 });
mock.onMessage("malformed", { content: "never seen" }, { chaos: { malformedRate: 1 } });
mock.onMessage("drop", { content: "never seen" }, { chaos: { dropRate: 1 } });
mock.onMessage("limited", { error: { message: "slow down", type: "rate_limit_error" }, status: 429 });
mock.onMessage("forbidden", { error: { message: "no such model for you", type: "invalid_request_error" }, status: 404 });
mock.onMessage("twice", () => (failuresLeft-- > 0
  ? { error: { message: "try again", type: "server_error" }, status: 503 }
  : { content: "third time lucky" }));
mock.onMessage("remember", (request) => ({ content: request.messages.map((m) => `${m.role}:${m.content}`).join("|") }));
mock.onMessage(/.*/, { content: "Hello from the mock, olá!" }, { chunkSize: 5 });
await mock.start();
console.log(JSON.stringify({ http: mock.url.replace("http://", "") }));
process.on("SIGTERM", async () => { await mock.stop(); process.exit(0); });
