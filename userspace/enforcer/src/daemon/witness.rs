//! The second place for anchors, opened while the process may still open it.

use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use weir_notify::{Address, Post};
use weir_record::anchor::Witness;

use super::prepare::read_secret;
use crate::config;

/// What is configured. A file may lie on any mount: the node keeps it open, and can open no other.
pub(super) fn open(witness: &config::Witness) -> Result<Witness> {
    match witness {
        config::Witness::File(path) => {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)
                .with_context(|| format!("opening {}", path.display()))?;
            let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
            anyhow::ensure!(regular, "{} is not a regular file", path.display());
            Ok(Witness::File(file))
        }
        config::Witness::Service {
            url,
            ca_file,
            token_file,
        } => {
            let ca = ca_file.as_ref().map(std::fs::read_to_string).transpose();
            let address = Address {
                url: url.clone(),
                ca: ca.context("reading record.witness.ca_file")?.map(Arc::from),
            };
            let token = token_file.as_deref().map(read_secret).transpose()?;
            let bearer = token.as_ref().map(|token| token.as_str());
            let post = Post::new(&address, bearer)
                .map_err(|error| anyhow::anyhow!("record.witness.url: {error}"))?;
            let post = Arc::new(post);
            Ok(Witness::Post(Box::new(move |lines| {
                let post = Arc::clone(&post);
                Box::pin(async move { post.lines(lines).await })
            })))
        }
    }
}

#[cfg(test)]
mod tests;
