-- Merges a batch's history into what live events made of it: the union, an event being the same if item and time are.
--
-- KEYS  history, seen
-- ARGV  1: msgpack {owner, now, length, replace, version, {item...}, {time...}}
-- Replies 1 if the kept events changed, else 0.

local owner, now, length, replace, version, items, times = unpack(cmsgpack.unpack(ARGV[1]))
local history, broken, known = stored_history(KEYS[1], KEYS[2], owner)

local function name(item, time)
  return string.format('%.17g', time) .. ':' .. item
end

local unmatched = {} -- of the batch: how often each event is still to be met in the stored history
for place = 1, #times do
  local event = name(items[place], times[place])
  unmatched[event] = (unmatched[event] or 0) + 1
end
local batch_only = #times
local merged_items, merged_times = {}, {}
local next_batch = 1

local function take_batch_up_to(time)
  while next_batch <= #times and times[next_batch] <= time do
    merged_items[#merged_items + 1] = items[next_batch]
    merged_times[#merged_times + 1] = times[next_batch]
    next_batch = next_batch + 1
  end
end

if not replace then
  for place = 1, #history[6] do
    local event = name(history[5][place], history[6][place])
    if (unmatched[event] or 0) > 0 then
      unmatched[event] = unmatched[event] - 1
      batch_only = batch_only - 1
    else
      take_batch_up_to(history[6][place])
      merged_items[#merged_items + 1] = history[5][place]
      merged_times[#merged_times + 1] = history[6][place]
    end
  end
end
take_batch_up_to(math.huge)

local first = math.max(1, #merged_times - length + 1)
local kept_items, kept_times = {}, {}
for place = first, #merged_times do
  kept_items[#kept_items + 1] = merged_items[place]
  kept_times[#kept_times + 1] = merged_times[place]
end
local grown = (known or history[3] > 0) and history[3] + batch_only or 0
if replace and grown > 0 then grown = grown + 1 end -- one version never stands for two histories
local record = { SCHEMA, owner, math.max(grown, version, #kept_times), now, kept_items, kept_times }
redis.call('SET', KEYS[1], sealed_history(record))
return (batch_only > 0 or replace or broken or not known) and 1 or 0
