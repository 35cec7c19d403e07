-- The request that wrk sends, from the environment.
wrk.method = os.getenv('BENCH_METHOD') or 'GET'
local body = os.getenv('BENCH_BODY')
if body and #body > 0 then wrk.body = body end
