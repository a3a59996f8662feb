-- What wrk does beyond asking for one target again and again, by environment variables, and its
-- percentiles in a form that bench/load/wrk.py reads.
--
-- BENCH_BODY     bytes of a POST body
-- BENCH_JSON     a POST body in JSON, as it stands
-- BENCH_VARY     1: no two requests are the same; target and cookie differ, with a body the cookie

local size, json = os.getenv("BENCH_BODY"), os.getenv("BENCH_JSON")
if size then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/octet-stream"
  wrk.body = string.rep("x", tonumber(size))
elseif json then
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = json
end

if os.getenv("BENCH_VARY") and wrk.body then
  local count = 0
  request = function()
    count = count + 1
    wrk.headers["Cookie"] = ("session=%08x%08x"):format(count, count * 2654435761 % 4294967296)
    return wrk.format()
  end
elseif os.getenv("BENCH_VARY") then
  local count = 0
  local head = "GET /item/%d?q=%d HTTP/1.1\r\nHost: %s:%s\r\nCookie: session=%08x%08x\r\n\r\n"
  request = function()
    count = count + 1
    return head:format(count, count * 7, wrk.host, wrk.port, count, count * 2654435761 % 4294967296)
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
