-- What lets a stored batch be proven without the spool: facts of each block of the chain, and the node's
-- signature of the segment's end, in the batch that reaches it.
ALTER TABLE batch ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS blocks Array(UInt32), ADD COLUMN IF NOT EXISTS signature String;
ALTER TABLE batch_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS blocks Array(UInt32), ADD COLUMN IF NOT EXISTS signature String;
