-- Counters of one owner's events: {schema, owner, {half-life...}, {type = {count, time, decayed...}}}.
-- "decayed" is the sum of 2^(-age / half-life) over all events, as of "time", the newest event's: order does not matter.

local function same_numbers(left, right)
  if type(left) ~= 'table' or #left ~= #right then return false end
  for place = 1, #right do
    if left[place] ~= right[place] then return false end
  end
  return true
end

local function is_entry(entry, decays)
  if type(entry) ~= 'table' or #entry ~= 2 + decays then return false end
  for place = 1, #entry do
    if type(entry[place]) ~= 'number' or entry[place] ~= entry[place] then return false end
  end
  return true
end

-- The stored counters. Under other half-lives the totals stay and the decayed sums begin anew.
local function stored_counters(key, owner, half_lives)
  local record = stored(key, owner)
  local fresh = { SCHEMA, owner, half_lives, {} }
  if not record or type(record[3]) ~= 'table' or type(record[4]) ~= 'table' then return fresh end
  local same = same_numbers(record[3], half_lives)
  for kind, entry in pairs(record[4]) do
    if type(kind) == 'string' and is_entry(entry, #record[3]) then
      local kept = { entry[1], entry[2] }
      for place = 1, #half_lives do
        kept[2 + place] = same and entry[2 + place] or 0
      end
      fresh[4][kind] = kept
    end
  end
  return fresh
end

local function count(record, kind, time)
  local half_lives, entry = record[3], record[4][kind]
  if not entry then
    entry = { 0, time }
    for place = 1, #half_lives do entry[2 + place] = 0 end
    record[4][kind] = entry
  end
  entry[1] = entry[1] + 1
  local ahead = time - entry[2]
  for place = 1, #half_lives do
    local share = 2 ^ (-math.abs(ahead) / half_lives[place])
    if ahead >= 0 then
      entry[2 + place] = entry[2 + place] * share + 1
    else
      entry[2 + place] = entry[2 + place] + share
    end
  end
  if ahead > 0 then entry[2] = time end
end
