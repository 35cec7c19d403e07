-- The request that wrk sends, from the environment; with paths, one after the other.
wrk.method = os.getenv('BENCH_METHOD') or 'GET'
local body = os.getenv('BENCH_BODY')
if body and #body > 0 then wrk.body = body end

local paths = {}
for path in (os.getenv('BENCH_PATHS') or ''):gmatch('%S+') do paths[#paths + 1] = path end
if #paths > 0 then
  local requests, at = {}, 0
  init = function(args)
    for n, path in ipairs(paths) do requests[n] = wrk.format(nil, path) end
  end
  request = function()
    at = at % #requests + 1
    return requests[at]
  end
end
