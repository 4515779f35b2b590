-- Reading what is stored: a value that is not the record it should be is as good as none, and is told.

local SCHEMA = 1
local MAX_BYTES = 512 * 1024
local SEAL_BYTES = 8
local MAX_VERSION = 2 ^ 53

-- A record's bytes behind their seal: digits of the SHA-1, by which readers find that a bit has flipped.
local function sealed(record)
  local body = cmsgpack.pack(record)
  return string.sub(redis.sha1hex(body), 1, SEAL_BYTES) .. body
end

-- What a reading command says; nil where another kind of value lies under its key, which is deleted. Any other error (a right
-- that the user lacks) ends the script: it must not pass for a broken value.
local function read_or_clear(command, key, ...)
  local value = redis.pcall(command, key, ...)
  if type(value) ~= 'table' or not value.err then return value end
  if not string.find(value.err, 'WRONGTYPE', 1, true) then error(value.err) end
  redis.call('DEL', key)
  return nil
end

-- The record under a key, or nil; second, whether something was there that cannot be used.
local function stored(key, owner)
  local value = read_or_clear('GET', key)
  if value == false then return nil, false end
  if value == nil then return nil, true end
  if #value > MAX_BYTES then return nil, true end
  if #value > SEAL_BYTES and string.byte(value) < 128 then -- else a record from before there were seals
    local body = string.sub(value, SEAL_BYTES + 1)
    if string.sub(redis.sha1hex(body), 1, SEAL_BYTES) ~= string.sub(value, 1, SEAL_BYTES) then return nil, true end
    value = body
  end
  local sound, record = pcall(cmsgpack.unpack, value)
  if not sound or type(record) ~= 'table' or record[1] ~= SCHEMA or record[2] ~= owner then return nil, true end
  return record, false
end

local function is_history(record)
  local version, items, times = record[3], record[5], record[6]
  if type(version) ~= 'number' or type(items) ~= 'table' or type(times) ~= 'table' or #items ~= #times then return false end
  if version < #times or version ~= math.floor(version) or version > MAX_VERSION then return false end
  for place = 1, #times do
    local time = times[place]
    if type(items[place]) ~= 'string' or type(time) ~= 'number' or time - time ~= 0 then return false end
    if place > 1 and time < times[place - 1] then return false end
  end
  return true
end

-- The history's version as the memory of ids tells it: the highest that any caller was told.
local function told_version(seen)
  local highest = read_or_clear('ZREVRANGE', seen, 0, 0, 'WITHSCORES')
  return highest and tonumber(highest[2]) or 0
end

-- The stored history, or an empty one; second, whether a broken one was put aside; third, whether there was one; last, the
-- highest score of a remembered id. The version never falls behind what callers were told while ids are remembered.
local function stored_history(key, seen, owner)
  local highest = told_version(seen)
  local record, broken = stored(key, owner)
  if record and not is_history(record) then
    record, broken = nil, true
  end
  local history = record or { SCHEMA, owner, 0, 0, {}, {} }
  history[3] = math.max(history[3], math.floor(highest))
  return history, broken, record ~= nil, highest
end

-- A history's bytes, as many of its newest events as readers accept.
local function sealed_history(history)
  local value = sealed(history)
  while #value > MAX_BYTES do
    local keep = math.floor(#history[6] * 0.9)
    for _, list in ipairs({ history[5], history[6] }) do
      local gone = #list - keep
      for place = 1, #list do list[place] = list[place + gone] end
    end
    value = sealed(history)
  end
  return value
end
