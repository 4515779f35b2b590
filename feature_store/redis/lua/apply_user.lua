-- Applies events of one user, each once: history, memory of ids, counters, log.
--
-- KEYS  history, seen, user counters [, log, log's count, counters of each item]
-- ARGV  1: msgpack {owner, now, length, {remembered ids, for seconds}, counters' seconds, {half-life...}, log's cap,
--                   {item id...}, {{type, enters history, place of the item, time}...}}
--       then two for each event: digest, payload
-- Replies {1 if a broken history was put aside, state 1, version 1, state 2, version 2, ...}; a state is 2 if the event is fresh
-- plus 1 if it entered the history.
--
-- The score of a remembered id is the history's version after the event. Events that did not enter lie behind it by one STEP
-- each, in the order of their arrival, so that the lowest scores are the oldest ids. 2^24 of them in a row are told apart.
--
-- Everything is read and reckoned before anything is written, and the ids are written last: should the server refuse a write
-- in the middle, the events are fresh at the next try, and the history knows those it has by item and time.

local STEP = 2 ^ -24
local owner, now, length, memory, counters_ttl, half_lives, log_cap, items, events = unpack(cmsgpack.unpack(ARGV[1]))
local logged = #KEYS > 3

local fault = logged and log_fault(KEYS[4], KEYS[5])
if fault then return fault end

local history, broken, _, newest_score = stored_history(KEYS[1], KEYS[2], owner)
local user_counters = stored_counters(KEYS[3], owner, half_lives)
local item_counters = {}
local changed = false
newest_score = math.max(newest_score, history[3])

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

local function next_score(entered)
  if entered then return history[3] end
  return math.min(newest_score + STEP, history[3] + 1 - STEP)
end

local scores = {} -- of this call's fresh events, by digest
local fresh = {}
local reply = { broken and 1 or 0 }
for place, event in ipairs(events) do
  local kind, is_history, item_place, time = unpack(event)
  local digest = ARGV[2 * place]
  local score = scores[digest] or tonumber(redis.call('ZSCORE', KEYS[2], digest) or nil)
  if score then
    local version = math.floor(score)
    reply[#reply + 1] = score == version and 1 or 0
    reply[#reply + 1] = version
  else
    local entered = is_history and enter(items[item_place], time)
    newest_score = next_score(entered)
    scores[digest] = newest_score
    fresh[#fresh + 1] = { place, history[3], entered }
    count(user_counters, kind, time)
    if logged then
      local key = KEYS[5 + item_place]
      item_counters[key] = item_counters[key] or stored_counters(key, items[item_place], half_lives)
      count(item_counters[key], kind, time)
    end
    reply[#reply + 1] = entered and 3 or 2
    reply[#reply + 1] = history[3]
  end
end
if #fresh == 0 then return reply end

if logged then
  for _, event in ipairs(fresh) do
    append_to_log(KEYS[4], KEYS[5], log_cap, event[2], event[3], ARGV[2 * event[1] + 1])
  end
end
if changed then
  history[4] = now
  redis.call('SET', KEYS[1], sealed_history(history))
end
redis.call('SET', KEYS[3], sealed(user_counters), 'EX', counters_ttl)
for key, record in pairs(item_counters) do
  redis.call('SET', key, sealed(record), 'EX', counters_ttl)
end
for digest, score in pairs(scores) do redis.call('ZADD', KEYS[2], score, digest) end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - memory[1])
redis.call('EXPIRE', KEYS[2], memory[2])
return reply
