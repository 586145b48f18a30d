// postgres.js, which pipelines what it can, and the streams of node-postgres.
const postgres = require('postgres')
const { Client } = require('pg')
const Cursor = require('pg-cursor')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { pipeline } = require('stream/promises')
const { Readable, Writable } = require('stream')

const said = (name, value) => console.log(`${name}: ${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v))}`)
const shape = (error) => [error.code, error.message, error.detail, error.hint, error.position, error.constraint_name]
const QUERIES = [
  "select 1::int2 as a, 2::int4 as b, 3::int8 as c, 1.5::float4 as d, 12345.678::numeric as e",
  "select '\\xdeadbeef'::bytea as a, '{\"a\": [1]}'::jsonb as b, '{1,2,NULL}'::int[] as c, '2020-02-29'::date as d",
  'select * from person order by id',
  'select * from busy order by id',
  'select * from mixed order by id',
  'select n from generate_series(1, 500) n'
]
const ERRORS = ['select 1/0', 'selec 1', 'select * from nosuch', 'select nosuch from person', "insert into person (id, name) values (1, 'x')"]

async function tagged() {
  const notices = []
  const place = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE }
  const sql = postgres({ ...place, max: 1, onnotice: (notice) => notices.push(notice.message), connection: { application_name: 'postgres.js' } })
  for (const text of QUERIES) {
    said(text, await sql.unsafe(text))
    said('prepared', (await sql.unsafe(text, [], { prepare: true })).columns.map((column) => [column.name, column.type < 16384 && column.type]))
  }
  for (const text of ERRORS) {
    await sql.unsafe(text).catch((error) => said(text, shape(error)))
    await sql.unsafe(text, [], { prepare: true }).catch((error) => said(text, shape(error)))
  }
  for (let n = 0; n < 3; n++) said('by id', await sql`select name from person where id = ${n}`)
  said('many', await sql`select * from person where id in ${sql([1, 2, 3])} order by id`)
  said('pipelined', await Promise.all([1, 2, 3, 4, 5].map((n) => sql`select ${n}::int as n`)))
  said('pipelined errors', await Promise.all([1, 0, 2].map((n) => sql`select 1 / ${n}::int as n`.catch((error) => shape(error)))))
  said('inserted', await sql`insert into audit ${sql([{ what: 'a' }, { what: 'b' }])} returning what`)
  said('rolled back', await sql.begin(async (sql) => {
    await sql`insert into audit values ('gone')`
    await sql.savepoint((sql) => sql`select 1/0`).catch((error) => said('savepoint', shape(error)))
    throw new Error('enough')
  }).catch((error) => error.message))
  said('together', await sql.begin((sql) => [sql`insert into audit values ('c')`, sql`select count(*) from audit`]))
  const rows = []
  await sql`select n from generate_series(1, 10) n`.cursor(3, (some) => { rows.push(some.map((row) => row.n)) })
  said('cursor', rows)
  await sql`select n from generate_series(1, 10) n`.forEach((row) => rows.push(row.n))
  said('each', rows.length)
  said('described', await sql`select name from person where id = ${1}`.describe().then((about) => about.types))
  await sql`select shout('loud')`
  said('notices', notices)
  const written = await sql`copy audit from stdin`.writable()
  await pipeline(Readable.from(['one\n', 'two\n']), written)
  const out = []
  for await (const chunk of await sql`copy (select what from audit order by what) to stdout`.readable()) out.push(chunk)
  said('copied', Buffer.concat(out).toString())
  const heard = []
  const done = new Promise((resolve) => sql.listen('news', (payload) => { heard.push(payload); resolve() }).then(() => sql.notify('news', 'fresh')))
  await done
  said('heard', heard)
  const slow = sql`select pg_sleep(20)`
  setTimeout(() => slow.cancel(), 300)
  await slow.catch((error) => said('cancelled', shape(error)))
  said('afterwards', await sql`select 1 as n`)
  await sql.end()
}

async function streams() {
  const client = new Client()
  await client.connect()
  const cursor = client.query(new Cursor('select n from generate_series(1, 7) n where n > $1', [2]))
  said('read', [await cursor.read(2), await cursor.read(2), await cursor.read(9), await cursor.read(1)].map((rows) => rows.map((row) => row.n)))
  await cursor.close()
  const left = client.query(new Cursor('select n from generate_series(1, 7) n'))
  said('left', (await left.read(1)).length)
  await left.close()
  await pipeline(Readable.from(['x\n'.repeat(20000)]), client.query(copyFrom('copy audit from stdin')))
  let bytes = 0
  await pipeline(client.query(copyTo('copy audit to stdout')), new Writable({ write(chunk, _, next) { bytes += chunk.length; next() } }))
  said('bytes', bytes)
  await client.end()
}

tagged().then(streams).catch((error) => { console.error(error); process.exit(1) })
