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

/// What the throttle counts of a message: every one with a text that the peer chose, and those that
/// it may send at will. The callbacks of either side count the same.
fn size(message: &ChannelMsg) -> Option<usize> {
    match message {
        ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => Some(data.len()),
        ChannelMsg::RequestPty { term, .. } => Some(term.len()),
        ChannelMsg::SetEnv {
            variable_name,
            variable_value,
            ..
        } => Some(variable_name.len() + variable_value.len()),
        ChannelMsg::RequestX11 {
            x11_authentication_protocol,
            x11_authentication_cookie,
            ..
        } => Some(x11_authentication_protocol.len() + x11_authentication_cookie.len()),
        ChannelMsg::Exec { command, .. } => Some(command.len()),
        ChannelMsg::RequestSubsystem { name, .. } => Some(name.len()),
        ChannelMsg::RequestShell { .. }
        | ChannelMsg::AgentForward { .. }
        | ChannelMsg::WindowChange { .. }
        | ChannelMsg::Signal { .. } => Some(0),
        ChannelMsg::ExitSignal {
            error_message,
            lang_tag,
            ..
        } => Some(error_message.len() + lang_tag.len()),
        _ => None,
    }
}

/// Whether a message means something to what is started already.
const fn is_input(message: &ChannelMsg) -> bool {
    matches!(
        message,
        ChannelMsg::Data { .. }
            | ChannelMsg::WindowChange { .. }
            | ChannelMsg::Signal { .. }
            | ChannelMsg::Eof
    )
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
        self.taken(&message);
        Some(message)
    }

    fn taken(&self, message: &ChannelMsg) {
        if let Some(bytes) = size(message) {
            self.throttle.taken(self.channel.into(), bytes);
        }
    }

    /// Of the connection that it belongs to.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        Arc::clone(&self.throttle)
    }

    /// Returns when the channel was closed; keeps the input that comes before that, and nothing else.
    pub(crate) async fn left(&mut self) {
        while !self.closed {
            match self.read.wait().await {
                Some(ChannelMsg::Eof) if matches!(self.kept.back(), Some(ChannelMsg::Eof)) => {}
                Some(message) if is_input(&message) => self.kept.push_back(message),
                Some(message) => self.taken(&message),
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
