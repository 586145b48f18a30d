//! Which of the spool's files may go.

use super::Shipper;
use crate::directory::{SegmentPath, live_epochs, segments};
use crate::journal::{self, Journal};

impl Shipper {
    /// Removes the oldest acknowledged segments of earlier epochs or sealed ones, once more than
    /// `keep_bytes` are used, or once somebody was refused for want of room.
    pub(super) fn free(&self, journal: &Journal) -> std::io::Result<()> {
        let short = self.used.was_short();
        let keep = if short {
            self.config.keep_bytes.min(self.used.bytes() / 2)
        } else {
            self.config.keep_bytes
        };
        if self.used.bytes() > keep {
            let all = segments(&self.directory).map_err(std::io::Error::other)?;
            let live = live_epochs(&self.directory).map_err(std::io::Error::other)?;
            for segment in &all {
                if self.used.bytes() <= keep {
                    break;
                }
                let finished = newer(&all, segment) || !live.contains(&segment.id.epoch);
                let length = std::fs::metadata(&segment.path)?.len();
                let cut = journal.progress.get(&segment.id).map_or(0, |p| p.end);
                let needed = journal::any_of(&journal.open, segment.id)
                    || journal::any_of(&journal.refused, segment.id);
                if finished && !needed && cut >= length {
                    std::fs::remove_file(&segment.path)?;
                    self.used.freed(segment.id.epoch == self.epoch, length);
                    tracing::info!(path = %segment.path.display(), "freed a shipped segment");
                }
            }
        }
        if short {
            self.used.reserve(&self.directory);
        }
        Ok(())
    }

    /// What can be freed by the journal as it is on disk, when it cannot be written.
    pub(super) fn free_blindly(&self) {
        let path = self.directory.join("batches");
        let freed = match Journal::open(&path) {
            Ok(Some(journal)) => self.free(&journal),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = freed {
            tracing::debug!(%error, "nothing could be freed");
        }
    }
}

/// There is a later segment of the same lane and epoch.
fn newer(all: &[SegmentPath], segment: &SegmentPath) -> bool {
    all.iter().any(|other| {
        other.id.epoch == segment.id.epoch
            && other.id.lane == segment.id.lane
            && other.id.number > segment.id.number
    })
}
