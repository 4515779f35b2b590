-- Applies events of one user, each once: history, memory of ids, counters, log.
--
-- KEYS  history, seen, user counters [, log, log's count, counters of each item]
-- ARGV  1: msgpack {owner, now, length, {remembered ids, for seconds}, counters' seconds, {half-life...}, log's cap,
--                   {item id...}, {{type, enters history, place of the item, time}...}}
--       then two for each event: digest, payload
-- Replies {1 if a broken history was put aside, state 1, version 1, state 2, version 2, ...}; a state is 2 if the event is fresh
-- plus 1 if it entered the history.
--
-- The score of a remembered id is the history's version after the event; a half more says that the event did not enter it.

local owner, now, length, memory, counters_ttl, half_lives, log_cap, items, events = unpack(cmsgpack.unpack(ARGV[1]))
local logged = #KEYS > 3

-- Nothing is written before everything that could still be refused was looked at.
if logged then
  local state = redis.pcall('XLEN', KEYS[4])
  if type(state) == 'table' then return redis.error_reply('WRONGTYPE the event log is no stream') end
  state = redis.pcall('GET', KEYS[5])
  if state and (type(state) == 'table' or not tonumber(state)) then
    return redis.error_reply("WRONGTYPE the event log's count is no number")
  end
end

local history, broken, known = stored_history(KEYS[1], owner)
local user_counters = stored_counters(KEYS[3], owner, half_lives)
local item_counters = {}
local changed = false

local highest = redis.pcall('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if highest.err then
  redis.call('DEL', KEYS[2])
elseif not known and highest[2] then
  -- The history is gone but its version was told to callers: it goes on from there.
  history[3] = math.floor(tonumber(highest[2]))
end

local function enter(item, time)
  local kept_items, kept_times = history[5], history[6]
  local place = #kept_times
  while place > 0 and kept_times[place] > time do place = place - 1 end
  local same = place
  while same > 0 and kept_times[same] == time do
    if kept_items[same] == item then return false end -- a batch brought it already
    same = same - 1
  end
  if place == 0 and #kept_times >= length then return false end -- older than everything that is kept
  table.insert(kept_items, place + 1, item)
  table.insert(kept_times, place + 1, time)
  while #kept_times > length do
    table.remove(kept_items, 1)
    table.remove(kept_times, 1)
  end
  history[3] = history[3] + 1
  changed = true
  return true
end

local reply = { broken and 1 or 0 }
local any_fresh = false
for place, event in ipairs(events) do
  local kind, is_history, item_place, time = unpack(event)
  local digest, payload = ARGV[2 * place], ARGV[2 * place + 1]
  local score = redis.call('ZSCORE', KEYS[2], digest)
  if score then
    local version = math.floor(tonumber(score))
    reply[#reply + 1] = tonumber(score) == version and 1 or 0
    reply[#reply + 1] = version
  else
    any_fresh = true
    local entered = is_history and enter(items[item_place], time)
    redis.call('ZADD', KEYS[2], entered and history[3] or history[3] + 0.5, digest)
    count(user_counters, kind, time)
    if logged then
      local key = KEYS[5 + item_place]
      item_counters[key] = item_counters[key] or stored_counters(key, items[item_place], half_lives)
      count(item_counters[key], kind, time)
      local number = redis.call('INCR', KEYS[5])
      redis.call('XADD', KEYS[4], 'MAXLEN', '~', log_cap, '*',
        'n', number, 'v', history[3], 'h', entered and 1 or 0, 'e', payload)
    end
    reply[#reply + 1] = entered and 3 or 2
    reply[#reply + 1] = history[3]
  end
end

if changed then
  history[4] = now
  redis.call('SET', KEYS[1], sealed(history))
end
if any_fresh then
  redis.call('SET', KEYS[3], sealed(user_counters), 'EX', counters_ttl)
  for key, record in pairs(item_counters) do
    redis.call('SET', key, sealed(record), 'EX', counters_ttl)
  end
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - memory[1])
  redis.call('EXPIRE', KEYS[2], memory[2])
end
return reply
