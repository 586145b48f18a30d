//! How much of a connection's data waits in memory.
//!
//! russh opens a channel's window again as soon as data is here, not when it was passed on, so
//! reading has to stop when too much is queued. It must not stop while something waits to be
//! written on the same connection: the message that lets it be written may be the next one to be
//! read, and both sides would wait for ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

// Signed: a message may be taken a moment before it is counted.
/// Queued data at which reading stops, unless something waits to be written.
const SOFT_BYTES: i64 = 8 * 1024 * 1024;
/// Queued data at which reading stops in any case.
const HARD_BYTES: i64 = 64 * 1024 * 1024;
/// What a message costs besides its bytes.
const MESSAGE_COST: i64 = 1024;
/// Messages that a channel's queue can hold: never reached, since [`HARD_BYTES`] is met before.
pub(crate) const QUEUE_MESSAGES: usize = (HARD_BYTES / MESSAGE_COST) as usize + 1;

#[derive(Default)]
struct State {
    /// Of each channel that somebody reads.
    channels: HashMap<u32, i64>,
    queued: i64,
    waiting_writes: usize,
}

fn cost(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(HARD_BYTES).min(HARD_BYTES) + MESSAGE_COST
}

/// Of one connection; shared by russh's task and the channels' tasks.
#[derive(Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
    changed: Notify,
}

impl Throttle {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state)
    }

    /// Somebody reads this channel from now on.
    pub(crate) fn opened(&self, channel: u32) {
        self.with(|state| state.channels.insert(channel, 0));
    }

    /// Nobody does any more; what it had queued is gone.
    pub(crate) fn closed(&self, channel: u32) {
        self.with(|state| {
            let queued = state.channels.remove(&channel).unwrap_or(0);
            state.queued -= queued;
        });
        self.changed.notify_one();
    }

    /// Counts a message that was queued and waits until reading may go on.
    pub(crate) async fn queued(&self, channel: u32, bytes: usize) {
        self.count(channel, cost(bytes));
        loop {
            let go_on = self.with(|state| {
                state.queued < SOFT_BYTES || (state.waiting_writes > 0 && state.queued < HARD_BYTES)
            });
            if go_on {
                return;
            }
            self.changed.notified().await;
        }
    }

    fn count(&self, channel: u32, change: i64) {
        self.with(|state| {
            if let Some(queued) = state.channels.get_mut(&channel) {
                *queued += change;
                state.queued += change;
            }
        });
    }

    /// A queued message was taken.
    pub(crate) fn taken(&self, channel: u32, bytes: usize) {
        self.count(channel, -cost(bytes));
        self.changed.notify_one();
    }

    /// Something waits to be written, for as long as the guard lives.
    pub(crate) fn writing(&self) -> Writing<'_> {
        self.with(|state| state.waiting_writes += 1);
        self.changed.notify_one();
        Writing(self)
    }
}

pub(crate) struct Writing<'a>(&'a Throttle);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.waiting_writes -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SOFT: usize = SOFT_BYTES as usize;
    const HARD: usize = HARD_BYTES as usize;

    fn throttle() -> (Arc<Throttle>, u32) {
        let (throttle, channel) = (Arc::new(Throttle::default()), 3);
        throttle.opened(channel);
        (throttle, channel)
    }

    fn stopped(
        throttle: &Arc<Throttle>,
        channel: u32,
        bytes: usize,
    ) -> tokio::task::JoinHandle<()> {
        let throttle = Arc::clone(throttle);
        tokio::spawn(async move { throttle.queued(channel, bytes).await })
    }

    #[tokio::test]
    async fn reading_stops_until_data_is_taken() {
        let (throttle, channel) = throttle();
        throttle.queued(channel, 10).await;
        let task = stopped(&throttle, channel, SOFT);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        throttle.taken(channel, 10);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        throttle.taken(channel, SOFT);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn reading_goes_on_while_a_write_waits() {
        let (throttle, channel) = throttle();
        let task = stopped(&throttle, channel, SOFT);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        let writing = throttle.writing();
        task.await.unwrap();
        drop(writing);
        let task = stopped(&throttle, channel, SOFT);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        task.abort();
    }

    #[tokio::test]
    async fn there_is_a_limit_even_then() {
        let (throttle, channel) = throttle();
        let _writing = throttle.writing();
        let task = stopped(&throttle, channel, HARD);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        throttle.taken(channel, HARD);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_channel_that_nobody_reads_stops_nothing() {
        let (throttle, channel) = throttle();
        let task = stopped(&throttle, channel, HARD);
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        throttle.closed(channel);
        task.await.unwrap();
        throttle.queued(channel, HARD).await;
    }

    #[tokio::test]
    async fn a_message_may_be_taken_before_it_is_counted() {
        let (throttle, channel) = throttle();
        for _ in 0..100 {
            throttle.taken(channel, SOFT / 10);
            throttle.queued(channel, SOFT / 10).await;
        }
        assert_eq!(throttle.with(|state| state.queued), 0);
    }
}
