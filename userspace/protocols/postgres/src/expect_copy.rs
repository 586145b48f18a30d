//! Answers to COPY.

use std::sync::Arc;

use weir_govern::{ClientBytes, Output, OwnToClient};
use weir_mask::MaskPlan;

use crate::pipeline::{Expect, Flow, Running, Staged};
use crate::plan::copied_fields;
use crate::session::PostgresSession;
use crate::wire::{Frame, Reader, WireError};

/// Overall format and number of columns of a CopyInResponse or CopyOutResponse.
fn answer(frame: &Frame) -> Result<(u8, usize), WireError> {
    let mut reader = Reader::new(frame.body());
    let format = reader.u8()?;
    let count = reader.count()?;
    for _ in 0..count {
        reader.i16()?;
    }
    reader.finish()?;
    Ok((format, count))
}

impl PostgresSession {
    /// A COPY FROM STDIN is on its way that the server has not asked data for. Some clients send
    /// them right behind it, without waiting.
    pub(crate) fn copy_is_ahead(&self) -> bool {
        let reads = |expect: &Expect| match expect {
            Expect::Statement(running) | Expect::Execute(running) => running.kind == Flow::CopyIn,
            Expect::QueryEnd
            | Expect::ParseDone { .. }
            | Expect::BindDone { .. }
            | Expect::CloseDone(_)
            | Expect::Describe { .. }
            | Expect::Sync
            | Expect::Local(_)
            | Expect::HiddenError
            | Expect::HiddenQueryError(_)
            | Expect::Probe(_)
            | Expect::Doubt(_)
            | Expect::Effect(_) => false,
        };
        let staged = self.staged.iter().flat_map(|staged| match staged {
            Staged::Forward { expect, .. } | Staged::Own { expect, .. } => expect.as_slice(),
            Staged::Local(_) => &[],
        });
        !self.copying_in && self.expected.iter().chain(staged).any(reads)
    }

    /// CopyInResponse, CopyOutResponse, CopyBothResponse.
    pub(crate) fn copy_begins(&mut self, frame: &Frame) {
        let (Ok((format, count)), Some(mut front)) = (answer(frame), self.expected.pop_front())
        else {
            return self.confused();
        };
        let fits = if let Expect::Statement(running) | Expect::Execute(running) = &mut front {
            match (frame.tag, running.kind) {
                (b'G', Flow::CopyIn) => {
                    self.copying_in = true;
                    self.expect_early_syncs();
                    true
                }
                (b'H', Flow::CopyOut) => self.copy_planned(running, format, count),
                (_, Flow::CopyIn | Flow::CopyOut | Flow::Rows) => false,
            }
        } else {
            false
        };
        self.expected.push_front(front);
        if !fits {
            return self.confused();
        }
        self.pass_to_client(OwnToClient::Status, frame.whole.clone());
    }

    /// libpq sends a Sync with each Execute; in front of COPY data the server reads over it.
    fn expect_early_syncs(&mut self) {
        let before = self.expected.len();
        self.expected
            .retain(|expect| !matches!(expect, Expect::Sync));
        let early = before - self.expected.len();
        self.batches_sent -= early as u64;
        self.early_syncs = u32::try_from(early).unwrap_or(u32::MAX);
        self.batch_open |= early > 0;
    }

    /// Makes the plan of a copy; false when the server writes another format than was understood.
    fn copy_planned(&self, running: &mut Running, format: u8, count: usize) -> bool {
        let binary = running.copy.as_ref().is_some_and(|copy| copy.is_binary());
        let Some(catalog) = &self.catalog else {
            return false;
        };
        if running.reach.passes() {
            return true;
        }
        let fields = copied_fields(&running.reach, count, i16::from(format), catalog);
        running.masking = Some(Arc::new(self.plan(&running.reach, &fields, &[])));
        binary == (format == 1)
    }

    pub(crate) fn copy_data(&mut self, frame: &Frame) {
        let (key, rows_head) = (self.config.mask_key.clone(), self.config.rows_head);
        let patterns = self.config.patterns.clone();
        let reuse = std::mem::take(&mut self.client_out);
        let Some(Expect::Statement(running) | Expect::Execute(running)) = self.expected.front_mut()
        else {
            return self.confused();
        };
        if running.kind != Flow::CopyOut {
            return self.confused();
        }
        if frame.tag == b'd' && running.is_full(frame.whole.len()) {
            return self.over_limit();
        }
        if frame.tag == b'c' {
            return self.pass_to_client(OwnToClient::Status, frame.whole.clone());
        }
        if self.masks_since_us.is_none() {
            self.masks_since_us = Some((self.config.clock)());
        }
        let masked = match (&running.masking, &mut running.copy) {
            (Some(masking), Some(copy)) if !masking.plan.is_pass() => copy
                .row(
                    frame.body(),
                    masking
                        .plan
                        .rows(&key, reuse)
                        .with_patterns(patterns.as_deref()),
                    masking.plan.columns().len(),
                )
                .ok(),
            (Some(_), _) => MaskPlan::default().pass(frame.whole.clone()),
            (None, _) if running.reach.passes() => MaskPlan::default().pass(frame.whole.clone()),
            (None, _) => None,
        };
        let Some(masked) = masked else {
            return self.confused();
        };
        let keep = running.keep(rows_head);
        if running.sample.wants(keep, running.rows) {
            // As it was copied, in a cell of its own: behind its tag and length.
            let line = masked.bytes().get(5..).unwrap_or_default();
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let row = std::iter::once(Some(line));
            running.sample.row(keep, running.rows, row);
        }
        running.sent(&masked);
        self.outputs
            .push_back(Output::ToClient(ClientBytes::masked(masked)));
    }
}
