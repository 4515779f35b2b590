-- On a cluster the log is a step of its own; an event that is applied again is logged again, with the version it had.
--
-- KEYS  log, log's count
-- ARGV  1: msgpack {log's cap, {{version, entered}...}}, then one for each event: payload

local log_cap, events = unpack(cmsgpack.unpack(ARGV[1]))
for place, event in ipairs(events) do
  local number = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', log_cap, '*', 'n', number, 'v', event[1], 'h', event[2] and 1 or 0, 'e', ARGV[1 + place])
end
return #events
