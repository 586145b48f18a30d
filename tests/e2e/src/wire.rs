//! Client programs, in Python, for what psql cannot be made to send.

/// Reads masked columns in text and in binary; prints `FORMAT<TAB>id<TAB>email<TAB>ssn<TAB>card`.
pub const TEXT_AND_BINARY: &str = "
import psycopg
with psycopg.connect('') as connection:
    for binary in (False, True):
        cursor = connection.cursor(binary=binary)
        cursor.execute('select id, email as contact, ssn, card from customers where id = %s', (1,))
        assert cursor.pgresult.fformat(1) == int(binary), 'wrong format'
        for row in cursor:
            print('binary' if binary else 'text', *row, sep='\\t')
";

/// Sends a 9 MiB comment and a DROP in one message, then looks whether the session still answers.
pub const LARGE: &str = "
import psycopg
connection = psycopg.connect('', autocommit=True)
try:
    result = connection.pgconn.exec_(b'/*' + b'x' * (9 << 20) + b'*/ drop table orders')
    print('status', result.status, result.error_field(67))
except psycopg.Error as error:
    print('error', error)
";

/// Inserts one row per statement until it is cut off; prints each key that was acknowledged.
pub const LOAD: &str = "
import psycopg
first = FIRST
try:
    connection = psycopg.connect('', autocommit=True)
    for key in range(first, first + 100000):
        connection.execute(f'insert into ledger values ({key}, 1, 1)', prepare=False)
        print(key, flush=True)
except psycopg.Error as error:
    print('cut', type(error).__name__, flush=True)
";

/// Prints where an address redirects to; URL.
pub const REDIRECT: &str = "
import sys, urllib.request
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
try:
    sys.exit(urllib.request.build_opener(Stay).open(sys.argv[1], timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.headers['location'])
";

/// Posts standard input to the store: URL, file with the bearer, format (and more of the URL).
pub const STORE_QUERY: &str = "
import sys, urllib.request
url, token = sys.argv[1], open(sys.argv[2]).read().strip()
request = urllib.request.Request(
    url + '/?default_format=' + sys.argv[3], data=sys.stdin.buffer.read(), method='POST',
    headers={'Authorization': 'Bearer ' + token})
try:
    print(urllib.request.urlopen(request, timeout=20).read().decode(), end='')
except urllib.error.HTTPError as error:
    sys.exit(f'{error.code} {error.read().decode()}')
";

/// Connects and says how it went: `open`, or the name of the error.
#[must_use]
pub fn connect(host: &str, port: &str) -> String {
    format!(
        "
import socket
try:
    socket.create_connection(({host:?}, {port}), timeout=5).close()
    print('open')
except OSError as error:
    print(type(error).__name__)
"
    )
}

/// Runs a command on a terminal of 101 × 33. `STEPS`: pairs of what is waited for and what is typed
/// then. Prints all that was shown, and ends with the command's exit code.
pub const TERMINAL: &str = "
import fcntl, os, pty, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 101, 0, 0))
    os.execvp(COMMAND[0], COMMAND)
shown, seen = b'', 0
def more():
    global shown
    try: piece = os.read(fd, 4096)
    except OSError: piece = b''
    shown += piece
    return piece
for wanted, typed in STEPS:
    while wanted.encode() not in shown[seen:]:
        if not more(): sys.exit('ended before ' + repr(wanted) + ': ' + repr(shown))
    seen = len(shown)
    os.write(fd, typed.encode())
while more(): pass
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Posts standard input as JSON to the URL in its argument; prints the answer.
pub const POST: &str = "
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.stdin.read().encode(), {'content-type': 'application/json'})
print(urllib.request.urlopen(request).read().decode())
";

/// Prints what the URL in its argument answers.
pub const GET: &str = "
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode())
";
