-- Prints wrk's own summary as one line of JSON, so that nobody has to parse "1.23ms" and "12.3k".
-- Deliberately no response() hook: calling Lua for each response would slow wrk down.
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "bad_status": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end

-- An argument is a form to post. A %d in it stands for 0 to 99 in turn. Only then is Lua called for
-- each request.
init = function(args)
  local form, number = args[1], 0
  if form then
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
    request = function()
      number = (number + 1) % 100
      return wrk.format(nil, nil, nil, (form:gsub("%%d", number)))
    end
  end
end
