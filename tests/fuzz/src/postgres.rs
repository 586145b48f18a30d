//! Messages of the PostgreSQL protocol, both directions.

use bytes::BytesMut;
use weir_postgres::wire::{self, backend, frontend, startup};

const MESSAGE_BYTES_MAX: usize = 1 << 16;

/// Start-up, then messages of a client; a message is what was sent, and nothing more is taken.
pub(crate) fn frontend(data: &[u8]) {
    let mut input = BytesMut::from(data);
    let _startup = startup::take(&mut input);
    let mut input = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(frame)) = wire::take(&mut input, MESSAGE_BYTES_MAX) {
        taken += frame.whole.len();
        let _message = frontend::decode(&frame);
    }
    assert_eq!(taken + input.len(), data.len());
}

pub(crate) fn backend(data: &[u8]) {
    let mut input = BytesMut::from(data);
    while let Ok(Some(frame)) = wire::take(&mut input, MESSAGE_BYTES_MAX) {
        let _auth = backend::auth(&frame);
        let _fields = backend::row_description(&frame);
        let _status = backend::parameter_status(&frame);
        let _error = backend::error_fields(&frame);
        let _cells = backend::data_row(&frame, |_, _| {});
    }
}
