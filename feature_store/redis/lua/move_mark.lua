-- Moves the mark of a spool, if it still is what it was.
--
-- KEYS  mark
-- ARGV  1: what it must be, 2: what it becomes
-- Replies what it was.

local was = redis.call('GET', KEYS[1])
if was == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
return was
