// SPDX-License-Identifier: Apache-2.0
// An independent client of the RPC port (npm: @msgpack/msgpack): HOST PORT COUNT; says COUNT things at once and prints one JSON
// line: how many were answered, the distinct message ids, and what a request with a timestamp in it is answered.
import net from "node:net";
import { createRequire } from "node:module";
const require = createRequire(process.env.CIRANDA_NODE + "/");
const { encode, decodeMultiStream } = require("@msgpack/msgpack");

const [host, port, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const socket = net.connect(port, host);
const frames = [];
for (let i = 1; i <= count; i++)
  frames.push(encode([0, i, "message.send", [{ conversation_id: `node-${i % 7}`, message_id: `n-${i}`, text: `olá ${i}`, metadata: { n: `${i}` } }]]));
frames.push(encode([0, 0, "message.send", [{ conversation_id: "node-0", text: new Date() }]]));
socket.write(Buffer.concat(frames.map((frame) => Buffer.from(frame))));

const ids = new Set();
let answered = 0, refusal = null, wrong = 0;
for await (const [type, msgid, error, result] of decodeMultiStream(socket)) {
  if (type !== 1) wrong++;
  if (msgid === 0) refusal = error.code;
  else {
    answered++;
    if (error !== null || result.reply.text !== `olá ${msgid}`) wrong++;
    else ids.add(result.message_id);
  }
  if (answered === count && refusal !== null) break;
}
socket.destroy();
console.log(JSON.stringify({ answered, ids: ids.size, wrong, refusal }));
