//! Sign-in by browser, through `identify`.

use std::any::Any;
use std::sync::Arc;

use weir_console::{Away, Future, Pending, SignIn, SignedIn};
use weir_identify::{CodeAnswer, CodeClient, CodeHandle, CodeRequest, Identify, Secret};

use crate::config::Console;

pub(super) struct EntraSignIn {
    identify: Arc<Identify>,
    client: CodeClient,
    redirect_uri: String,
}

impl EntraSignIn {
    pub(super) fn new(identify: Arc<Identify>, console: &Console, secret: Option<Secret>) -> Self {
        Self {
            identify,
            client: CodeClient {
                client_id: console.client_id.clone(),
                secret,
            },
            redirect_uri: format!("{}/sign-in/return", console.url),
        }
    }
}

impl SignIn for EntraSignIn {
    fn begin(&self, again: bool) -> Future<Result<Pending, Away>> {
        let identify = Arc::clone(&self.identify);
        let request = CodeRequest {
            redirect_uri: self.redirect_uri.clone(),
            client: Some(self.client.clone()),
            offline: false,
            again,
        };
        Box::pin(async move {
            let start = identify.authorize_url(&request, weir_clock::now()).await;
            let start = start.map_err(|error| {
                tracing::warn!(error = %error.operator_text(), "the console cannot begin a sign-in");
                Away("The authority does not answer. Try again in a moment.".to_owned())
            })?;
            Ok(Pending {
                url: start.url,
                state: start.handle.state().to_owned(),
                kept: Box::new(start.handle),
            })
        })
    }

    fn redeem(
        &self,
        kept: Box<dyn Any + Send + Sync>,
        query: String,
    ) -> Future<Result<SignedIn, Away>> {
        let identify = Arc::clone(&self.identify);
        Box::pin(async move {
            let refused = |text: String| {
                tracing::warn!(error = %text, "a sign-in to the console was refused");
                Away(format!("You are not signed in: {text}."))
            };
            let handle = kept.downcast::<CodeHandle>();
            let handle = handle.map_err(|_| refused("it was begun elsewhere".to_owned()))?;
            let answer = CodeAnswer::parse(&query).map_err(|error| refused(error.to_string()))?;
            let signed = identify.redeem(*handle, answer, weir_clock::now()).await;
            let signed = signed.map_err(|error| refused(error.operator_text()))?;
            let shown = signed.shown;
            Ok(SignedIn {
                shown: shown.unwrap_or_else(|| signed.principal.oid.to_string()),
                principal: signed.principal,
            })
        })
    }
}
