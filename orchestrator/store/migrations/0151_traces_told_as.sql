-- As what spans of records are sent: the resource, and what is said of the broker. Whoever sends a trace again says the
-- same, whatever environment it is typed in; else a collector would show each span twice.
ALTER TABLE trace_sender ADD COLUMN told_as text NOT NULL DEFAULT '';
COMMENT ON COLUMN trace_sender.told_as IS 'JSON: resource, system and group of whoever sent last; empty before the first';
