-- Reading what is stored: a value that is not the record it should be is as good as none, and is told.

local SCHEMA = 1
local MAX_BYTES = 512 * 1024
local SEAL_BYTES = 8

-- A record's bytes behind their seal: digits of the SHA-1, by which readers find that a bit has flipped.
local function sealed(record)
  local body = cmsgpack.pack(record)
  return string.sub(redis.sha1hex(body), 1, SEAL_BYTES) .. body
end

-- The record under a key, or nil; second, whether something was there that cannot be used.
local function stored(key, owner)
  local value = redis.pcall('GET', key)
  if value == false then return nil, false end
  if type(value) ~= 'string' then
    redis.call('DEL', key)
    return nil, true
  end
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
  if version < #times or version ~= math.floor(version) then return false end
  for place = 1, #times do
    local time = times[place]
    if type(items[place]) ~= 'string' or type(time) ~= 'number' or time ~= time then return false end
    if place > 1 and time < times[place - 1] then return false end
  end
  return true
end

-- The stored history, or an empty one; second, whether a broken one was put aside.
local function stored_history(key, owner)
  local record, broken = stored(key, owner)
  if record and not is_history(record) then
    record, broken = nil, true
  end
  if record then return record, broken, true end
  return { SCHEMA, owner, 0, 0, {}, {} }, broken, false
end
