//! What is spoken on a connection after its upgrade.

use bytes::Bytes;
use weir_govern::{ClientBytes, Reply};
use weir_model::request::Request;
use weir_model::time::Now;

/// The request that asked for the upgrade, among the questions of its dialogue.
pub const OPENING: u32 = 0;

/// Decodes both sides of an upgraded connection and encodes them anew: pure, one per connection.
/// Requests that were cleared before the upgrade are questions 1, 2, …
pub trait Dialogue: 'static {
    /// The agent sent bytes, cut anywhere.
    ///
    /// # Errors
    /// [`Stopped`]: nothing more is read; steps so far are carried out.
    fn agent_said(&mut self, bytes: &[u8], now: Now, steps: &mut Vec<Step>) -> Result<(), Stopped>;

    /// The server sent bytes, cut anywhere.
    ///
    /// # Errors
    /// As [`Dialogue::agent_said`].
    fn server_said(&mut self, bytes: &[u8], now: Now, steps: &mut Vec<Step>)
    -> Result<(), Stopped>;

    /// A [`Step::Ask`] was decided.
    ///
    /// # Errors
    /// As [`Dialogue::agent_said`].
    fn answered(
        &mut self,
        question: u32,
        answer: Answer,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped>;

    /// False while too much of the agent waits for an answer.
    fn wants_agent(&self) -> bool;

    /// Time passed: once a second, or a moment after the server paused.
    ///
    /// # Errors
    /// As [`Dialogue::agent_said`].
    fn tick(&mut self, now: Now, steps: &mut Vec<Step>) -> Result<(), Stopped>;

    /// Tells the agent why all ends, and the server that it ends.
    fn stop(&mut self, stopped: Stopped, now: Now, steps: &mut Vec<Step>);

    /// The server sends nothing more: what was kept back is given out.
    fn server_left(&mut self, now: Now, steps: &mut Vec<Step>);

    /// At the end, however it came: the last piece of a terminal, and a reply to each question
    /// that was cleared.
    fn replies(&mut self) -> (Option<String>, Vec<(u32, Reply)>);
}

/// What has to be done, in order.
#[derive(Debug)]
pub enum Step {
    /// A piece of the terminal is recorded.
    Record(String),
    /// Bytes for the server, by the permit of a question.
    ToServer(u32, Bytes),
    ToAgent(ClientBytes),
    /// Something needs a permit of its own; it is not on its way yet.
    Ask(u32, Request),
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Cleared,
    /// For the agent.
    Refused(String),
}

/// Why a dialogue ends before its time; a text for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub text: &'static str,
    /// As the record has it.
    pub status: &'static str,
}
