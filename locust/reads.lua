-- Reads of random products, for wrk (https://github.com/wg/wrk), which reaches rates that Locust does not:
--
--   wrk -t1 -c64 -d15s -s locust/reads.lua http://localhost:8000
--
-- PAUSE_MS=n in the environment lets each connection pause for n ms between two requests, so that the
-- figure is the latency at a rate and not that of a queue on a machine at its limit. PRICING_API_KEY holds a key where
-- keys are on.

local locations = { "NY", "LA", "MIA" }
local pause = tonumber(os.getenv("PAUSE_MS") or "0")

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
if os.getenv("PRICING_API_KEY") then
    wrk.headers["Authorization"] = "Bearer " .. os.getenv("PRICING_API_KEY")
end

function request()
    local body = string.format(
        '{"product_id":"P-%d","user_location":"%s","is_prime_member":%s}',
        math.random(100, 999), locations[math.random(3)], tostring(math.random(2) == 1)
    )
    return wrk.format(nil, "/api/v1/price", nil, body)
end

if pause > 0 then
    function delay()
        return pause
    end
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        "p50 %.2f ms   p95 %.2f ms   p99 %.2f ms   %.0f requests/s   %d errors",
        latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
        summary.requests / summary.duration * 1e6, errors.connect + errors.read + errors.status + errors.timeout
    ))
end
