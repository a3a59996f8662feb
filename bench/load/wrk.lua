-- What wrk does beyond asking for one target again and again, and its percentiles in a form that
-- bench/load/wrk.py reads.
--
-- BENCH_POOL     a file of requests, each after a line with its length: sent as they stand, in turn

local pool = os.getenv("BENCH_POOL")
if pool then
  local requests, at = {}, 0
  local file = assert(io.open(pool, "rb"))
  for length in file:lines() do
    requests[#requests + 1] = file:read(tonumber(length))
  end
  file:close()
  request = function()
    at = at % #requests + 1
    return requests[at]
  end
end

done = function(summary, latency, requests)
  local errors = summary.errors
  local line = '{"requests":%d,"microseconds":%d,"bytes":%d,"status":%d,"connect":%d,"read":%d,'
    .. '"write":%d,"timeout":%d,"p50":%d,"p99":%d,"p99.9":%d,"max":%d}'
  io.write("RESULT ", line:format(
    summary.requests, summary.duration, summary.bytes, errors.status, errors.connect, errors.read,
    errors.write, errors.timeout, latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max), "\n")
end
