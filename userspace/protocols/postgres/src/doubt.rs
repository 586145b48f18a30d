//! Texts that are not understood: the server is asked to refuse them in its own words.
//!
//! A typing error is answered as the server would answer it, with its position and its hint. The text
//! goes to the server as a `Parse` and is never bound or executed; policy has to permit the action
//! `parse`, and the request is recorded like any other. When the server accepts what is not
//! understood here, the client gets our own refusal.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_govern::{OwnToClient, OwnToServer, Ruling};
use weir_model::request::{Access, Intent, Object, Recorded, Request};
use weir_model::time::Now;

use crate::expect_query::{FAILING, recordable};
use crate::pipeline::{Expect, Staged};
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::{SqlRefusal, query_within, refused_at};
use crate::wire::{cstr, message};

/// What the server is asked about.
pub(crate) struct Doubt {
    /// The request of action `parse`.
    pub(crate) seq: u32,
    /// What the client is told when the server does not refuse.
    pub(crate) refusal: Bytes,
    pub(crate) rule: &'static str,
}

impl PostgresSession {
    /// Refuses a text that was not understood; `types` are those of a `Parse`, `None` says that it
    /// stood in a simple query.
    pub(crate) fn refuse_text(
        &mut self,
        refusal: &SqlRefusal,
        text: &str,
        types: Option<&[u32]>,
        now: Now,
    ) {
        let (bytes, rule) = reply::refusal(refusal, self.session_id());
        let permit = refusal
            .server_may_say()
            .then(|| self.may_ask(text, now))
            .flatten();
        let Some(permit) = permit else {
            self.record_refusal(rule, &refusal.to_string(), text, now);
            return match types {
                Some(_) => self.refuse_extended(bytes),
                None => self.refuse_query(bytes),
            };
        };
        let alone = match types {
            Some(_) => Cow::Borrowed(text),
            None => self.refused_alone(text),
        };
        let alone = within(&alone).map_or(alone, Cow::Owned);
        let mut parse = BytesMut::new();
        put_parse(&mut parse, &alone, types.unwrap_or(&[]));
        let doubt = Doubt {
            seq: permit.seq(),
            refusal: bytes,
            rule,
        };
        self.staged.push_back(Staged::Forward {
            permit,
            bytes: parse.freeze(),
            expect: vec![Expect::Doubt(Box::new(doubt))],
        });
        let mut failing = BytesMut::new();
        put_parse(&mut failing, FAILING, &[]);
        let mut expect = vec![Expect::HiddenError];
        if types.is_some() {
            self.skipping = true;
        } else {
            message(&mut failing, b'S', |_| {});
            expect.push(Expect::Sync);
            self.batches_sent += 1;
        }
        self.staged.push_back(Staged::Own {
            kind: OwnToServer::Probe,
            bytes: failing.freeze(),
            expect,
        });
        self.prepared.remove("");
        self.release_recorded();
    }

    /// Of several statements the one that is not understood, where it stands: what comes before it is
    /// blanked, so that the server's position is right.
    fn refused_alone<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(catalog) = &self.catalog else {
            return Cow::Borrowed(text);
        };
        let at = refused_at(text, &self.scope(catalog, false), &self.limits);
        let (Some(before), Some(refused)) = (text.get(..at.start), text.get(at)) else {
            return Cow::Borrowed(text);
        };
        let blank = before.chars().map(|_| ' ');
        Cow::Owned(blank.chain(refused.chars()).collect())
    }

    /// A permit to show the text to the server's parser. A hold is as good as a denial: nobody waits
    /// for a person to read a typing error.
    fn may_ask(&mut self, text: &str, now: Now) -> Option<Arc<weir_decide::Permit>> {
        let object = Object {
            kind: "Database",
            path: [&self.config.target, &self.database].map(Arc::clone).into(),
        };
        let access = Access {
            action: "parse",
            object,
        };
        let intent = Arc::new(Intent::new(vec![access], Vec::new()));
        let request = Request {
            recorded: Recorded::of(&intent),
            intent,
            statement: Arc::from(recordable(text)),
            parameters: String::new(),
            shape: 0,
            decode_us: 0,
            bytes_in: text.len() as u64,
        };
        match self.governor.as_mut()?.submit(request, now) {
            Ruling::Permit(permit) => Some(permit),
            Ruling::Denial(_) | Ruling::Hold(_) => None,
        }
    }

    /// The server accepts the text: it is refused by us, and what was sent behind it fails.
    pub(crate) fn doubt_accepted(&mut self, now: Now) {
        if let Some(Expect::Doubt(doubt)) = self.expected.pop_front() {
            self.finish_unrun(doubt.seq, doubt.rule, now);
            self.pass_to_client(OwnToClient::Denial, doubt.refusal);
        }
    }
}

/// The query within a statement whose query the server's parser does not look at before it runs, where it
/// stands: the rest is blanked.
fn within(text: &str) -> Option<String> {
    let query = query_within(text)?;
    let blank = |part: &str| part.chars().map(|_| ' ').collect::<String>();
    let (before, behind) = (text.get(..query.start)?, text.get(query.end..)?);
    Some([&blank(before), text.get(query)?, &blank(behind)].concat())
}

fn put_parse(out: &mut BytesMut, text: &str, types: &[u32]) {
    message(out, b'P', |out| {
        cstr(out, "");
        cstr(out, text);
        let count = u16::try_from(types.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for oid in types {
            out.extend_from_slice(&oid.to_be_bytes());
        }
    });
}
