-- SPDX-License-Identifier: Apache-2.0
-- wrk's requests for bench/run: the same durable message to every side, over 4,096 conversations (nginx answers them all
-- with its constant).
local threads, number, headers = 0, 0, { ["Content-Type"] = "application/json" }
function setup(thread)
   threads = threads + 1
   thread:set("id", threads)
end
function request()
   number = number + 1
   local path = "/v1/conversations/w" .. id .. "-" .. (number % 4096) .. "/messages"
   return wrk.format("POST", path, headers, '{"text":"hello there","agent":"echo"}')
end
function done(summary, latency, _)
   io.write(string.format('{"requests":%d,"us":%d,"p99_us":%d,"bad":%d}\n', summary.requests, summary.duration, latency:percentile(99),
      summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
