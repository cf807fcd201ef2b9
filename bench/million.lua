-- SPDX-License-Identifier: Apache-2.0
-- wrk's requests for bench/million.py: `create FROM TO` says hello once in each conversation of a range, then only in the first;
-- `speak KNOWN ACTIVE` goes round ACTIVE conversations that lie evenly among KNOWN ones.
local threads, headers = 0, { ["Content-Type"] = "application/json" }
local body = '{"text":"hello there, I would like to know how this works","agent":"echo"}'

function setup(thread)
   threads = threads + 1
   thread:set("id", threads)
end

function init(args)
   mode, first, last = args[1], tonumber(args[2]), tonumber(args[3])
   number = mode == "speak" and 0 or first - 1
end

function request()
   number = number + 1
   local name = number
   if mode == "speak" then
      name = number % last * math.floor(first / last)
   elseif number >= last then -- wrk goes on until it is told to end
      name = first
   end
   return wrk.format("POST", "/v1/conversations/c-" .. string.format("%07d", name) .. "/messages", headers, body)
end

function done(summary, latency, _)
   io.write(string.format('{"requests":%d,"us":%d,"p99_us":%d,"bad":%d}\n', summary.requests, summary.duration, latency:percentile(99),
      summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
