//! What comes in on one channel, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use russh::{ChannelId, ChannelMsg, ChannelReadHalf};

use crate::throttle::Throttle;

/// Messages of one channel; those that came while nobody could take them are kept.
pub(crate) struct Inputs {
    channel: ChannelId,
    read: ChannelReadHalf,
    throttle: Arc<Throttle>,
    kept: VecDeque<ChannelMsg>,
    closed: bool,
}

fn size(message: &ChannelMsg) -> Option<usize> {
    match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => Some(data.len()),
        _ => None,
    }
}

impl Inputs {
    pub(crate) fn new(channel: ChannelId, read: ChannelReadHalf, throttle: Arc<Throttle>) -> Self {
        throttle.opened(channel.into());
        Self {
            channel,
            read,
            throttle,
            kept: VecDeque::new(),
            closed: false,
        }
    }

    /// The next message; `None` when the channel is closed.
    pub(crate) async fn next(&mut self) -> Option<ChannelMsg> {
        let message = match self.kept.pop_front() {
            Some(message) => message,
            None if self.closed => return None,
            None => self.read.wait().await?,
        };
        if let Some(bytes) = size(&message) {
            self.throttle.taken(self.channel.into(), bytes);
        }
        Some(message)
    }

    /// Of the connection that it belongs to.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        Arc::clone(&self.throttle)
    }

    /// Returns when the channel was closed; keeps what comes before that.
    pub(crate) async fn left(&mut self) {
        while !self.closed {
            match self.read.wait().await {
                Some(message) => self.kept.push_back(message),
                None => self.closed = true,
            }
        }
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        self.throttle.closed(self.channel.into());
    }
}
