//! WebSocket frames (RFC 6455, section 5), as pieces of messages while they arrive.

use bytes::Bytes;

use super::Broken;

/// Of one message, whatever its frames. Pieces are given on as they come, so this bounds no memory;
/// no client or server of Kubernetes sends larger ones.
const MESSAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Payload of a control frame (RFC 6455, 5.5).
pub(crate) const CONTROL_BYTES_MAX: usize = 125;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
/// "No status code was present" (RFC 6455, 7.4.1).
const NO_STATUS: u16 = 1005;

/// What frames hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A piece of a message; `last` ends it. Text and binary are the same here.
    Data {
        bytes: Bytes,
        last: bool,
    },
    Ping(Bytes),
    Pong(Bytes),
    Close(u16),
}

/// Frames of one direction.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Frames of a client are masked, those of a server are not.
    from_client: bool,
    head: Vec<u8>,
    frame: Option<Frame>,
    /// Payload of a control frame.
    control: Vec<u8>,
    /// Bytes of the message that further frames go on with.
    open: Option<u64>,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    fin: bool,
    left: u64,
    mask: [u8; 4],
    masked: usize,
}

impl Frames {
    pub(crate) const fn new(from_client: bool) -> Self {
        Self {
            from_client,
            head: Vec::new(),
            frame: None,
            control: Vec::new(),
            open: None,
            closed: false,
        }
    }

    /// Reads what arrived.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        parts: &mut Vec<Part>,
    ) -> Result<(), Broken> {
        loop {
            if self.frame.is_none() {
                bytes = self.read_head(bytes)?;
            }
            let Some(frame) = &mut self.frame else {
                return Ok(());
            };
            if bytes.is_empty() && frame.left > 0 {
                return Ok(());
            }
            let here = usize::try_from(frame.left).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(here.min(bytes.len()));
            bytes = rest;
            frame.left -= piece.len() as u64;
            let payload = frame.unmask(piece);
            let frame = *frame;
            self.take(frame, payload, parts)?;
            if frame.left == 0 {
                self.frame = None;
            }
        }
    }

    /// Collects a head; what follows it is returned.
    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            self.head.push(*byte);
            if self.head.len() == 2 {
                self.check_head()?;
            }
            if let Some(frame) = self.whole_head()? {
                self.head.clear();
                self.frame = Some(frame);
                return Ok(rest);
            }
        }
        Ok(rest)
    }

    /// What is refused before the length is known.
    fn check_head(&self) -> Result<(), Broken> {
        let [first, second] = self.head.as_slice() else {
            return Ok(());
        };
        // A heartbeat may cross the close; it is read and dropped.
        if self.closed && first & 8 == 0 {
            return Err(Broken("a WebSocket message follows a close frame"));
        }
        if first & 0x70 != 0 {
            return Err(Broken("a WebSocket frame has reserved bits"));
        }
        if (second & 0x80 != 0) != self.from_client {
            return Err(Broken(
                "a WebSocket frame is masked on the wrong side, or not masked",
            ));
        }
        let fin = first & 0x80 != 0;
        match first & 0x0f {
            CLOSE | PING | PONG => {
                if !fin || usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
                    return Err(Broken("a WebSocket control frame is fragmented or long"));
                }
            }
            CONTINUATION if self.open.is_none() => {
                return Err(Broken("a WebSocket message goes on that did not begin"));
            }
            TEXT | BINARY if self.open.is_some() => {
                return Err(Broken("a WebSocket message begins within another"));
            }
            CONTINUATION | TEXT | BINARY => {}
            _ => return Err(Broken("a WebSocket opcode is not known")),
        }
        Ok(())
    }

    fn whole_head(&self) -> Result<Option<Frame>, Broken> {
        let [first, second, extended @ ..] = self.head.as_slice() else {
            return Ok(None);
        };
        let short = second & 0x7f;
        let wide: usize = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = extended.split_at_checked(wide) else {
            return Ok(None);
        };
        let mask = match (self.from_client, mask) {
            (false, _) => [0; 4],
            (true, [a, b, c, d]) => [*a, *b, *c, *d],
            (true, _) => return Ok(None),
        };
        let length = match wide {
            0 => u64::from(short),
            _ => length
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if (wide == 2 && length < 126) || (wide == 8 && length <= u64::from(u16::MAX)) {
            return Err(Broken(
                "a WebSocket length is not written in its shortest form",
            ));
        }
        if length > MESSAGE_BYTES_MAX {
            return Err(Broken("a WebSocket message is too large"));
        }
        Ok(Some(Frame {
            opcode: first & 0x0f,
            fin: first & 0x80 != 0,
            left: length,
            mask,
            masked: 0,
        }))
    }

    fn take(
        &mut self,
        frame: Frame,
        payload: Vec<u8>,
        parts: &mut Vec<Part>,
    ) -> Result<(), Broken> {
        if frame.opcode & 8 != 0 {
            self.control.extend_from_slice(&payload);
            if frame.left == 0 {
                let whole = Bytes::from(std::mem::take(&mut self.control));
                if !self.closed {
                    parts.push(self.control_part(frame.opcode, whole)?);
                }
            }
            return Ok(());
        }
        let total = self.open.unwrap_or(0) + payload.len() as u64;
        if total > MESSAGE_BYTES_MAX {
            return Err(Broken("a WebSocket message is too large"));
        }
        let last = frame.fin && frame.left == 0;
        self.open = (!last).then_some(total);
        if last || !payload.is_empty() {
            let bytes = Bytes::from(payload);
            parts.push(Part::Data { bytes, last });
        }
        Ok(())
    }

    fn control_part(&mut self, opcode: u8, payload: Bytes) -> Result<Part, Broken> {
        match opcode {
            PING => Ok(Part::Ping(payload)),
            PONG => Ok(Part::Pong(payload)),
            _ => {
                self.closed = true;
                match payload.as_ref() {
                    [] => Ok(Part::Close(NO_STATUS)),
                    // The reason behind the code is a text of the other side's; it stays here.
                    [high, low, ..] => Ok(Part::Close(u16::from_be_bytes([*high, *low]))),
                    [_] => Err(Broken("a WebSocket close frame has half a status")),
                }
            }
        }
    }
}

impl Frame {
    fn unmask(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut payload = piece.to_vec();
        mask(&mut payload, self.mask, self.masked);
        self.masked = (self.masked + piece.len()) % 4;
        payload
    }
}

fn mask(payload: &mut [u8], key: [u8; 4], from: usize) {
    if key == [0; 4] {
        return;
    }
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle().skip(from % 4)) {
        *byte ^= key;
    }
}

/// One whole frame; `key` for those of a client. `head` stands in front of the payload.
pub(crate) fn write(
    opcode: u8,
    head: &[u8],
    payload: &[u8],
    key: Option<[u8; 4]>,
    out: &mut Vec<u8>,
) {
    let length = head.len() + payload.len();
    let flag = if key.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => out.push(flag | short),
        (_, Ok(middle)) => {
            out.push(flag | 126);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            out.push(flag | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if let Some(key) = &key {
        out.extend_from_slice(key);
    }
    let from = out.len();
    out.extend_from_slice(head);
    out.extend_from_slice(payload);
    if let (Some(key), Some(written)) = (key, out.get_mut(from..)) {
        mask(written, key, 0);
    }
}

/// A close frame. Codes that may not stand on the wire are sent as none.
pub(crate) fn write_close(status: u32, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let code = u16::try_from(status).unwrap_or(NO_STATUS);
    if (1000..=1003).contains(&code) || (1007..=1014).contains(&code) || code >= 3000 {
        write(CLOSE, &[], &code.to_be_bytes(), key, out);
    } else {
        write(CLOSE, &[], &[], key, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from_client: bool, bytes: &[u8]) -> Result<Vec<Part>, Broken> {
        let mut parts = Vec::new();
        Frames::new(from_client)
            .receive(bytes, &mut parts)
            .map(|()| parts)
    }

    fn data(bytes: &'static [u8], last: bool) -> Part {
        let bytes = Bytes::from_static(bytes);
        Part::Data { bytes, last }
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 6455, 5.7.
        let masked = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(read(true, &masked), Ok(vec![data(b"Hello", true)]));
        let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        assert_eq!(
            read(false, &fragments),
            Ok(vec![data(b"Hel", false), data(b"lo", true)])
        );
        let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        let hello = Bytes::from_static(b"Hello");
        assert_eq!(read(false, &ping), Ok(vec![Part::Ping(hello)]));
    }

    #[test]
    fn a_control_frame_may_stand_within_a_message() {
        let bytes = [0x02, 0x01, b'a', 0x8a, 0x00, 0x80, 0x01, b'b'];
        assert_eq!(
            read(false, &bytes),
            Ok(vec![
                data(b"a", false),
                Part::Pong(Bytes::new()),
                data(b"b", true)
            ])
        );
    }

    #[test]
    fn nothing_counts_behind_a_close() {
        let bytes = [0x88, 0x02, 0x03, 0xe8, 0x89, 0x00, 0x88, 0x00];
        assert_eq!(read(false, &bytes), Ok(vec![Part::Close(1000)]));
    }

    #[test]
    fn hostile_frames_are_refused() {
        for (client, bytes) in [
            // Not masked, and masked by a server.
            (true, &[0x82, 0x01, 0x00][..]),
            (false, &[0x82, 0x81, 0, 0, 0, 0, 0]),
            // Reserved bits, unknown opcodes.
            (false, &[0xc2, 0x00]),
            (false, &[0x83, 0x00]),
            (false, &[0x8b, 0x00]),
            // Control frames: fragmented, long.
            (false, &[0x09, 0x00]),
            (false, &[0x89, 126, 0, 126]),
            // Continuation of nothing, a message within a message.
            (false, &[0x80, 0x00]),
            (false, &[0x02, 0x00, 0x82, 0x00]),
            // Lengths: not the shortest form, beyond the limit.
            (false, &[0x82, 126, 0, 125]),
            (false, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            (false, &[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]),
            (false, &[0x82, 127, 0, 0, 0, 0, 0x02, 0, 0, 1]),
            // Half a status, and a frame behind the close.
            (false, &[0x88, 0x01, 0x03]),
            (false, &[0x88, 0x00, 0x82, 0x00]),
        ] {
            assert!(read(client, bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn fragments_have_a_limit_together() {
        let mut frames = Frames::new(false);
        let mut frame = vec![0x02, 127, 0, 0, 0, 0, 0, 0x10, 0, 0];
        frame.resize(10 + 1024 * 1024, 0);
        let mut refused = false;
        for _ in 0..40 {
            let mut parts = Vec::new();
            refused |= frames.receive(&frame, &mut parts).is_err();
            frame[0] = 0x00;
        }
        assert!(refused);
    }
}
