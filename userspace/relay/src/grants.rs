//! Ends what runs under a grant when the grant is over.

use std::sync::Arc;
use std::time::Duration;

use weir_govern::Event;
use weir_model::ident::{ApprovalId, SessionId};
use weir_state::StateError;

use crate::node::Node;

/// Looks at a store that fails, one second apart. Then the grant counts as over: nobody could tell
/// that it was revoked.
const LOOKS_MAX: u32 = 10;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// From now on the session is told when the grant expires or is revoked. Once for each grant.
pub(crate) fn follow(node: &Arc<Node>, session: SessionId, grant: ApprovalId) {
    let Some(mailbox) = node.registry.follow(session, grant) else {
        return;
    };
    let node = Arc::clone(node);
    let control = node.control.clone();
    drop(control.spawn(async move {
        tokio::select! {
            over = over(&node, grant) => {
                if !over {
                    return;
                }
            }
            () = mailbox.closed() => return,
        }
        // A session that is gone needs no word.
        let _gone = mailbox.send(Event::GrantEnded { approval: grant }).await;
    }));
}

/// False when the approval was for one request only: then nothing runs out.
async fn over(node: &Node, grant: ApprovalId) -> bool {
    for _look in 0..LOOKS_MAX {
        match node.state.grant_over(grant).await {
            Ok(()) => return true,
            Err(StateError::NotFound) => return false,
            Err(error) => tracing::error!(%error, %grant, "whether a grant is over is not known"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}
