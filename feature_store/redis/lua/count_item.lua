-- On a cluster an item's counters are a step of their own: its keys lie on another node than the user's.
--
-- KEYS  counters of the item
-- ARGV  1: msgpack {item id, counters' seconds, {half-life...}, {{type, time}...}}

local item, counters_ttl, half_lives, events = unpack(cmsgpack.unpack(ARGV[1]))
local counters = stored_counters(KEYS[1], item, half_lives)
for _, event in ipairs(events) do count(counters, event[1], event[2]) end
redis.call('SET', KEYS[1], sealed(counters), 'EX', counters_ttl)
return #events
