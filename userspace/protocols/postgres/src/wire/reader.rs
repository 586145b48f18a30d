//! Reading the inside of a message.

use super::WireError;

/// A cursor over one message's body.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// # Errors
    /// [`WireError::Short`].
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(WireError::Short)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.rest = tail;
        Ok(*head)
    }

    /// # Errors
    /// [`WireError::Short`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    /// # Errors
    /// [`WireError::Short`].
    pub fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// A count: never negative.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::Length`].
    pub fn count(&mut self) -> Result<usize, WireError> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    /// # Errors
    /// [`WireError::Short`].
    pub fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// # Errors
    /// [`WireError::Short`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A zero-terminated UTF-8 text.
    ///
    /// # Errors
    /// [`WireError::Short`] without terminator, [`WireError::NotUtf8`].
    pub fn cstr(&mut self) -> Result<&'a str, WireError> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(WireError::Short)?;
        let text = self.bytes(end)?;
        self.u8()?;
        std::str::from_utf8(text).map_err(|_| WireError::NotUtf8)
    }

    /// A value with a length before it; -1 is NULL.
    ///
    /// # Errors
    /// [`WireError::Short`], [`WireError::Length`].
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| WireError::Length)?;
                self.bytes(length).map(Some)
            }
        }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub const fn remaining(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// # Errors
    /// [`WireError::Trailing`] when something is left.
    pub const fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }
}

impl Reader<'_> {
    /// A zero-terminated text of the server, which may be in another encoding before login.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn cstr_lossy(&mut self) -> Result<String, WireError> {
        let end = self
            .rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(WireError::Short)?;
        let text = String::from_utf8_lossy(self.bytes(end)?).into_owned();
        self.u8()?;
        Ok(text)
    }
}
