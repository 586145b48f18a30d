-- Verification reads the rows of one segment at a time.
ALTER TABLE fact ADD INDEX IF NOT EXISTS by_segment (epoch, segment) TYPE minmax GRANULARITY 1;
