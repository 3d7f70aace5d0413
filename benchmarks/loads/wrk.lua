-- wrk: one fixed request over and over. Arguments: HEADERS-FILE ("name: value" lines) [BODY-FILE].
-- With a body it is a POST, without one a GET.
-- No `request` and no `response` function: wrk then formats the request once and parses no answer in Lua.

init = function(args)
   for line in io.lines(args[1]) do
      local name, value = line:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
   if args[2] then
      wrk.method = "POST"
      local body = assert(io.open(args[2], "rb"))
      wrk.body = body:read("*a")
      body:close()
   end
end

done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"operations": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, "errors": %d}\n',
      summary.requests, summary.duration, summary.bytes,
      latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
