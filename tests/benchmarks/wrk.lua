-- What wrk counts of one container, as a line of JSON at its end. Each thread has one connection.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds, micros; } moment;
int gettimeofday(moment *, void *);
]]
local moment = ffi.new("moment")

local function now()
  ffi.C.gettimeofday(moment, nil)
  return tonumber(moment.seconds) + tonumber(moment.micros) / 1e6
end

-- Globals are a thread's own, and what it has at the end can be read from it.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init()
  refused, longest, last = 0, 0, now()
end

-- In milliseconds. The app starts a shell for each request, which leaves little for Kamal otherwise.
function delay()
  return 20
end

function response(status)
  local at = now()
  longest, last = math.max(longest, at - last), at
  if status < 200 or status > 299 then
    refused = refused + 1
  end
end

function done(summary)
  local ended, refused, longest = now(), 0, 0
  for _, thread in ipairs(threads) do
    refused = refused + thread:get("refused")
    -- wrk itself counts no request that is never answered.
    longest = math.max(longest, thread:get("longest"), ended - thread:get("last"))
  end
  local errors = summary.errors
  local failed = refused + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"requests": %d, "failed": %d, "longest": %.3f, "ended": %.6f}\n',
    summary.requests + failed - refused - errors.timeout, failed, longest, ended))
end
