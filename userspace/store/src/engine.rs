//! The engine's C interface (chdb): the only unsafe code here.
//!
//! A connection belongs to one request. The library is never unloaded, and the first connection,
//! whose arguments set the process, is never closed.

#![expect(unsafe_code, reason = "the engine is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use crate::answer::Failure;

type Handle = *mut c_void;
type Ask = unsafe extern "C" fn(
    Handle,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> Handle;

/// Symbols, looked up once. All are plain C functions of the loaded library.
#[derive(Clone, Copy)]
struct Api {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Handle,
    close_conn: unsafe extern "C" fn(*mut Handle),
    query: Ask,
    stream_query: Ask,
    stream_fetch: unsafe extern "C" fn(Handle, Handle) -> Handle,
    stream_cancel: unsafe extern "C" fn(Handle, Handle),
    insert: unsafe extern "C" fn(Handle, *const c_char, usize, *const c_char, usize) -> Handle,
    append: unsafe extern "C" fn(Handle, *const c_void, usize) -> c_int,
    done: unsafe extern "C" fn(Handle) -> Handle,
    insert_error: unsafe extern "C" fn(Handle) -> *const c_char,
    cancel_insert: unsafe extern "C" fn(Handle),
    destroy_insert: unsafe extern "C" fn(Handle),
    buffer: unsafe extern "C" fn(Handle) -> *const c_char,
    length: unsafe extern "C" fn(Handle) -> usize,
    error: unsafe extern "C" fn(Handle) -> *const c_char,
    rows_written: unsafe extern "C" fn(Handle) -> u64,
    destroy: unsafe extern "C" fn(Handle),
}

/// The loaded library and its data directory.
pub(crate) struct Engine {
    api: Api,
    path: String,
    version: String,
    _first: *mut Handle,
}

// SAFETY: `_first` is only kept, never used; the functions may be called from any thread as long as
// a connection is used by one at a time, which `Connection` being moved ensures.
unsafe impl Send for Engine {}
// SAFETY: as above; `Engine` has no interior state.
unsafe impl Sync for Engine {}

fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the engine's error texts are NUL-terminated and live until their owner is destroyed,
    // which is after this copy.
    Some(
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .into_owned(),
    )
}

fn failed(text: Option<String>) -> Failure {
    Failure::of_engine(text.unwrap_or_else(|| "the engine gave no answer".to_owned()))
}

macro_rules! symbol {
    ($library:expr, $name:literal) => {
        // SAFETY: the signature is the one of chdb.h 26.7, and the library's hash was verified.
        *unsafe { $library.get(concat!("chdb_", $name, "\0").as_bytes()) }
            .map_err(|error| format!("the library lacks chdb_{}: {error}", $name))?
    };
}

fn api(library: &libloading::Library) -> Result<Api, String> {
    Ok(Api {
        connect: symbol!(library, "connect"),
        close_conn: symbol!(library, "close_conn"),
        query: symbol!(library, "query_with_params_n"),
        stream_query: symbol!(library, "stream_query_with_params_n"),
        stream_fetch: symbol!(library, "stream_fetch_result"),
        stream_cancel: symbol!(library, "stream_cancel_query"),
        insert: symbol!(library, "stream_insert_n"),
        append: symbol!(library, "stream_append"),
        done: symbol!(library, "stream_done"),
        insert_error: symbol!(library, "stream_insert_error"),
        cancel_insert: symbol!(library, "stream_cancel_insert"),
        destroy_insert: symbol!(library, "destroy_insert_stream"),
        buffer: symbol!(library, "result_buffer"),
        length: symbol!(library, "result_length"),
        error: symbol!(library, "result_error"),
        rows_written: symbol!(library, "result_rows_written"),
        destroy: symbol!(library, "destroy_query_result"),
    })
}

impl Engine {
    /// Loads the library and opens the data directory.
    ///
    /// # Errors
    /// A symbol is missing, or the directory is in use.
    pub(crate) fn load(library: &Path, data: &Path, memory: u64) -> Result<Self, String> {
        // SAFETY: the caller verified the library's hash; its constructors are part of what was
        // pinned.
        let library =
            unsafe { libloading::Library::new(library) }.map_err(|error| error.to_string())?;
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        let handlers: unsafe extern "C" fn(c_int) = symbol!(library, "set_signal_handlers_enabled");
        let version: unsafe extern "C" fn() -> *const c_char = symbol!(library, "version");
        // SAFETY: takes a number, keeps nothing.
        unsafe { handlers(0) };
        let api = api(library)?;
        let path = data
            .to_str()
            .ok_or("the data directory's name is not UTF-8")?
            .to_owned();
        let arguments = [
            format!("--path={path}"),
            format!("--max_server_memory_usage={memory}"),
            format!("--mark_cache_size={}", 64 << 20),
        ];
        let first = connect(&api, &arguments)?;
        // SAFETY: returns a static string.
        let version = text(unsafe { version() }).unwrap_or_default();
        Ok(Self {
            api,
            path,
            version,
            _first: first,
        })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A connection of its own with these settings.
    pub(crate) fn connection(&self, settings: &[(String, String)]) -> Result<Connection, Failure> {
        let mut arguments = vec![format!("--path={}", self.path)];
        arguments.extend(
            settings
                .iter()
                .map(|(name, value)| format!("--{name}={value}")),
        );
        let pointer = connect(&self.api, &arguments).map_err(|text| Failure::new(202, text))?;
        Ok(Connection {
            api: self.api,
            pointer,
        })
    }
}

fn connect(api: &Api, arguments: &[String]) -> Result<*mut Handle, String> {
    let mut owned = vec![CString::from(c"weir-store")];
    for argument in arguments {
        owned.push(CString::new(argument.as_str()).map_err(|_| "a setting holds a NUL byte")?);
    }
    let mut pointers: Vec<*mut c_char> = owned.iter().map(|a| a.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).map_err(|_| "too many settings")?;
    // SAFETY: argc and argv describe NUL-terminated strings that outlive the call.
    let pointer = unsafe { (api.connect)(count, pointers.as_mut_ptr()) };
    if pointer.is_null() {
        return Err("the engine refuses the connection: is the data directory in use?".to_owned());
    }
    Ok(pointer)
}

/// One request's connection.
pub(crate) struct Connection {
    api: Api,
    pointer: *mut Handle,
}

// SAFETY: a connection may move between threads, as long as one uses it at a time.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: `pointer` came from connect and is closed once; streams borrow `self`.
        unsafe { (self.api.close_conn)(self.pointer) };
    }
}

struct Answer {
    api: Api,
    handle: Handle,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the handle is a result (null is accepted), destroyed once.
        unsafe { (self.api.destroy)(self.handle) };
    }
}

impl Answer {
    fn checked(self) -> Result<Self, Failure> {
        if self.handle.is_null() {
            return Err(failed(None));
        }
        // SAFETY: the handle is a live result.
        match text(unsafe { (self.api.error)(self.handle) }) {
            Some(error) => Err(failed(Some(error))),
            None => Ok(self),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the handle is a live result.
        let (buffer, length) = unsafe {
            (
                (self.api.buffer)(self.handle),
                (self.api.length)(self.handle),
            )
        };
        if buffer.is_null() || length == 0 {
            return Vec::new();
        }
        // SAFETY: the buffer has `length` bytes until the result is destroyed.
        unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) }.to_vec()
    }
}

impl Connection {
    fn handle(&self) -> Handle {
        // SAFETY: connect gave a pointer to the handle, valid until closed.
        unsafe { *self.pointer }
    }

    fn ask(&self, ask: Ask, sql: &str, format: &str, parameters: &[(String, String)]) -> Answer {
        let names: Vec<_> = parameters
            .iter()
            .map(|(n, _)| n.as_ptr().cast::<c_char>())
            .collect();
        let name_lengths: Vec<_> = parameters.iter().map(|(n, _)| n.len()).collect();
        let values: Vec<_> = parameters
            .iter()
            .map(|(_, v)| v.as_ptr().cast::<c_char>())
            .collect();
        let value_lengths: Vec<_> = parameters.iter().map(|(_, v)| v.len()).collect();
        // SAFETY: every pointer has its length and outlives the call.
        let handle = unsafe {
            ask(
                self.handle(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        Answer {
            api: self.api,
            handle,
        }
    }

    /// Runs a statement and gives its whole result.
    pub(crate) fn query(
        &self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Vec<u8>, Failure> {
        Ok(self
            .ask(self.api.query, sql, format, parameters)
            .checked()?
            .bytes())
    }

    /// Runs a SELECT and gives its result in pieces to `take`, until that says no.
    pub(crate) fn stream(
        &self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<(), Failure> {
        let stream = self
            .ask(self.api.stream_query, sql, format, parameters)
            .checked()?;
        loop {
            // SAFETY: connection and stream are live.
            let handle = unsafe { (self.api.stream_fetch)(self.handle(), stream.handle) };
            let piece = Answer {
                api: self.api,
                handle,
            }
            .checked()?
            .bytes();
            if piece.is_empty() {
                return Ok(());
            }
            if !take(piece) {
                // SAFETY: connection and stream are live; the stream is destroyed afterwards.
                unsafe { (self.api.stream_cancel)(self.handle(), stream.handle) };
                return Ok(());
            }
        }
    }

    /// Starts an insert whose data follows.
    pub(crate) fn insert(&self, statement: &str, format: &str) -> Result<Inserting<'_>, Failure> {
        // SAFETY: both texts have their lengths and outlive the call.
        let handle = unsafe {
            (self.api.insert)(
                self.handle(),
                statement.as_ptr().cast(),
                statement.len(),
                format.as_ptr().cast(),
                format.len(),
            )
        };
        let inserting = Inserting {
            connection: self,
            handle,
        };
        match inserting.error() {
            Some(error) => Err(failed(Some(error))),
            None if handle.is_null() => Err(failed(None)),
            None => Ok(inserting),
        }
    }
}

/// An insert under way; dropped unfinished, nothing of it is stored.
pub(crate) struct Inserting<'a> {
    connection: &'a Connection,
    handle: Handle,
}

impl Inserting<'_> {
    fn error(&self) -> Option<String> {
        if self.handle.is_null() {
            return None;
        }
        // SAFETY: the handle is a live insert.
        text(unsafe { (self.connection.api.insert_error)(self.handle) })
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // SAFETY: the bytes have their length; the engine copies them.
        let code = unsafe {
            (self.connection.api.append)(self.handle, bytes.as_ptr().cast(), bytes.len())
        };
        if code == 0 {
            Ok(())
        } else {
            Err(failed(self.error()))
        }
    }

    /// Stores what was appended; gives the rows written.
    pub(crate) fn finish(mut self) -> Result<u64, Failure> {
        let api = self.connection.api;
        // SAFETY: the handle is a live insert; done gives a result of its own.
        let handle = unsafe { (api.done)(self.handle) };
        let answer = Answer { api, handle }.checked();
        // SAFETY: the insert is over; it is destroyed once, since the handle is cleared.
        unsafe { (api.destroy_insert)(self.handle) };
        self.handle = ptr::null_mut();
        let answer = answer?;
        // SAFETY: the handle is a live result.
        Ok(unsafe { (api.rows_written)(answer.handle) })
    }
}

impl Drop for Inserting<'_> {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the insert was not finished: cancelled, then destroyed once.
            unsafe {
                (self.connection.api.cancel_insert)(self.handle);
                (self.connection.api.destroy_insert)(self.handle);
            }
        }
    }
}
