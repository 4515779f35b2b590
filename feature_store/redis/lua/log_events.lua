-- On a cluster the log is a step of its own; an event that is applied again is logged again, with the version it had.
--
-- KEYS  log, log's count
-- ARGV  1: msgpack {log's cap, {{version, entered}...}}, then one for each event: payload

local log_cap, events = unpack(cmsgpack.unpack(ARGV[1]))
local fault = log_fault(KEYS[1], KEYS[2])
if fault then return fault end
for place, event in ipairs(events) do
  append_to_log(KEYS[1], KEYS[2], log_cap, event[1], event[2], ARGV[1 + place])
end
return #events
