-- The event log: a stream, and how many events ever entered it.

-- Why the log cannot take events, or nil. Asked before anything is written.
local function log_fault(log, counted)
  local length = redis.pcall('XLEN', log)
  if type(length) == 'table' then return length end
  local count = redis.pcall('GET', counted)
  if count == false then return nil end
  if type(count) == 'table' then return count end
  if not string.find(count, '^%d+$') or #count > 15 then
    return redis.error_reply("WRONGTYPE the event log's count is no number")
  end
end

local function append_to_log(log, counted, cap, version, entered, payload)
  local number = redis.call('INCR', counted)
  redis.call('XADD', log, 'MAXLEN', '~', cap, '*', 'n', number, 'v', version, 'h', entered and 1 or 0, 'e', payload)
end
