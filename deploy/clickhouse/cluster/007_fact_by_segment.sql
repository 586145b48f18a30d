-- Verification reads the rows of one segment at a time.
ALTER TABLE fact ON CLUSTER '{cluster}' ADD INDEX IF NOT EXISTS by_segment (epoch, segment) TYPE minmax GRANULARITY 1;
