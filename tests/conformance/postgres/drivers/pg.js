// node-postgres, by the folder of its packages in NODE_PATH.
const { Client, Pool } = require('pg')

const said = (name, value) => console.log(`${name}: ${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v))}`)
const shape = (error) => [error.code, error.message, error.detail, error.hint, error.position, error.constraint]
const QUERIES = [
  "select 1::int2, 2::int4, 3::int8, 1.5::float4, 12345.678::numeric",
  "select '2020-02-29'::date::text, '2020-02-29 12:34:56+02'::timestamptz at time zone 'UTC'",
  "select '\\xdeadbeef'::bytea, '{\"a\": [1]}'::jsonb, '{1,2,NULL}'::int[]",
  'select * from person order by id',
  'select * from busy order by id',
  'select n from generate_series(1, 500) n'
]
const ERRORS = ['select 1/0', 'selec 1', 'select * from nosuch', 'select nosuch from person', "insert into person (id, name) values (1, 'x')"]

async function main() {
  const client = new Client({ ssl: process.env.PGSSLMODE ? { rejectUnauthorized: false } : undefined })
  const notices = []
  client.on('notice', (notice) => notices.push([notice.severity, notice.message]))
  await client.connect()
  for (const text of QUERIES) said(text, (await client.query(text)).rows)
  for (const text of QUERIES) said(text, (await client.query({ text, rowMode: 'array', values: [] })).fields.map((f) => [f.name, f.dataTypeID]))
  for (const text of ERRORS) {
    await client.query(text).catch((error) => said(text, shape(error)))
    await client.query(text, []).catch((error) => said(text, shape(error)))
  }
  for (let n = 0; n < 3; n++) said('named', (await client.query({ name: 'by-id', text: 'select name from person where id = $1', values: [n] })).rows)
  said('parameters', (await client.query('select $1::int + 1 as a, $2::text as b, $3::text as c', [41, 'x', null])).rows)
  said('multi', (await client.query('select 1 as a; select 2 as b')).map((r) => r.rows))
  await client.query('begin')
  await client.query("insert into audit values ('node')")
  said('tag', [(await client.query("update audit set what = 'changed'")).rowCount, (await client.query('rollback')).command])
  await client.query("select shout('x')")
  said('notices', notices)
  const heard = new Promise((resolve) => client.on('notification', (note) => resolve([note.channel, note.payload])))
  await client.query('listen news')
  await client.query("notify news, 'fresh'")
  said('notification', await heard)
  await client.query('create temp table mine (a int)')
  await client.query('insert into mine values (1), (2)')
  said('temp', (await client.query('select * from mine order by a')).rows)
  await client.end()
  const pool = new Pool({ max: 3, ssl: process.env.PGSSLMODE ? { rejectUnauthorized: false } : undefined })
  said('pool', (await Promise.all([1, 2, 3, 4, 5].map((n) => pool.query('select $1::int as n', [n])))).map((r) => r.rows[0].n))
  await pool.end()
}

main().catch((error) => { console.error(error); process.exit(1) })
