// Routes: tenants, the Kubernetes issuer, the Graph stub and the controls.

import { randomUUID } from 'node:crypto';
import { Aadsts, aadstsBody } from './aadsts.mjs';
import { authorize } from './browser.mjs';
import { control } from './control.mjs';
import { graph } from './graph.mjs';
import { Keyring } from './keyring.mjs';
import { Kubernetes } from './kubernetes.mjs';
import { metadata } from './metadata.mjs';
import { Vaults } from './vaults.mjs';
import { Tenant } from './tenant.mjs';
import { prepareDevice, prepareToken } from './token.mjs';

const COMMON = new Set(['common', 'organizations']);
/** The tenant of personal accounts. */
const CONSUMERS = '9188040d-6c67-4c5b-b112-36a304b66dad';
const BODY_BYTES_MAX = 1024 * 1024;

export class Entra {
  static async create(config, origin) {
    const entra = new Entra();
    entra.origin = origin;
    entra.counts = { discovery: 0, keys: 0, token: 0, devicecode: 0, graph: 0, k8s_token: 0, metadata: 0 };
    entra.fault = null;
    entra.browser = {};
    entra.clockOffsetS = 0;
    entra.consumers = await Keyring.create();
    entra.vaults = new Vaults();
    entra.kubernetes = await Kubernetes.create(config.kubernetes, origin);
    entra.tenants = new Map();
    for (const tenant of config.tenants) {
      entra.tenants.set(tenant.tid, await Tenant.create(tenant, origin));
    }
    return entra;
  }

  async handle(req, res) {
    try {
      await this.#route(req, res);
    } catch (cause) {
      if (cause instanceof Aadsts) {
        json(res, cause.status, cause.body(req.headers['client-request-id']));
      } else if (cause instanceof TypeError || cause instanceof SyntaxError) {
        json(res, 400, { error: 'invalid_request', error_description: cause.message });
      } else {
        console.error(cause);
        json(res, 500, { error: 'server_error' });
      }
    }
  }

  async #route(req, res) {
    if (this.clockOffsetS) res.setHeader('date', new Date(Date.now() + this.clockOffsetS * 1000).toUTCString());
    const url = new URL(req.url, this.origin);
    const { pathname } = url;
    if (pathname.startsWith('/control/')) return control(this, req, res, pathname);
    if (this.fault && pathname.includes(this.fault.path)) return fail(this.fault, res);
    if (pathname.startsWith('/k8s/')) return this.#kubernetes(req, res, pathname);
    if (pathname.startsWith('/graph/v1.0/')) {
      this.counts.graph += 1;
      return graph(this, req, res, url);
    }
    if (pathname.startsWith('/imds/')) {
      this.counts.metadata += 1;
      return metadata(this, req, res, url);
    }
    if (pathname.startsWith('/vault/v1/')) return this.vaults.vault(req, res, pathname);
    if (pathname.startsWith('/keyvault/')) return this.vaults.keyVault(this, req, res, url);
    if (pathname === '/devicelogin') {
      res.setHeader('content-type', 'text/plain; charset=utf-8');
      return res.end('POST /control/device {"user_code": …, "user": …} approves a code.\n');
    }
    if (COMMON.has(pathname.split('/')[1])) return this.#common(res, pathname);
    const tenant = this.tenants.get(pathname.split('/')[1]);
    if (!tenant) {
      return json(res, 400, aadstsBody('invalid_tenant', 90002, `Tenant '${pathname.split('/')[1]}' not found.`));
    }
    const path = pathname.slice(tenant.tid.length + 1);
    return path === '/oauth2/v2.0/authorize' ? authorize(this, tenant, res, url) : this.#tenant(tenant, req, res, path);
  }

  async #tenant(tenant, req, res, path) {
    switch (path) {
      case '/v2.0/.well-known/openid-configuration':
        this.counts.discovery += 1;
        return json(res, 200, tenant.discovery());
      case '/.well-known/openid-configuration':
        return json(res, 200, tenant.discoveryV1());
      case '/discovery/keys':
        return json(res, 200, { keys: tenant.keyring.published() });
      case '/discovery/v2.0/keys':
        this.counts.keys += 1;
        return json(res, 200, tenant.jwks());
      case '/oauth2/v2.0/token': {
        this.counts.token += 1;
        const form = new URLSearchParams(await readBody(req));
        const prepared = await prepareToken(tenant, form, this.kubernetes);
        return prepared.answer ? json(res, 200, prepared.answer) : tenant.pass(req, res, prepared);
      }
      case '/oauth2/v2.0/devicecode': {
        this.counts.devicecode += 1;
        const form = new URLSearchParams(await readBody(req));
        return tenant.pass(req, res, prepareDevice(tenant, form));
      }
      default:
        return tenant.pass(req, res);
    }
  }

  /** What holds for any tenant: an issuer with a place for one, and everybody's keys. */
  #common(res, pathname) {
    const [, name, ...rest] = pathname.split('/');
    const any = this.tenants.values().next().value;
    switch (rest.join('/')) {
      case 'v2.0/.well-known/openid-configuration': {
        const of = (url) => url.replace(`/${any.tid}/`, `/${name}/`);
        const document = any.discovery();
        for (const [key, value] of Object.entries(document)) {
          if (typeof value === 'string') document[key] = of(value);
        }
        return json(res, 200, { ...document, issuer: `${this.origin}/{tenantid}/v2.0` });
      }
      case 'discovery/v2.0/keys':
        return json(res, 200, { keys: [...this.#everybodysKeys()] });
      default:
        return json(res, 404, { error: 'not_found' });
    }
  }

  *#everybodysKeys() {
    for (const tenant of this.tenants.values()) yield* tenant.keyring.published({ issuer: `${this.origin}/{tenantid}/v2.0` });
    yield* this.consumers.published({ issuer: `${this.origin}/${CONSUMERS}/v2.0` });
  }

  async #kubernetes(req, res, path) {
    switch (path) {
      case '/k8s/.well-known/openid-configuration':
        return json(res, 200, this.kubernetes.discovery());
      case '/k8s/openid/v1/jwks':
        return json(res, 200, this.kubernetes.jwks());
      case '/k8s/token': {
        this.counts.k8s_token += 1;
        const request = JSON.parse(await readBody(req));
        return json(res, 200, { token: await this.kubernetes.token(request) });
      }
      default: {
        const secret = /^\/k8s\/api\/v1\/namespaces\/([^/]+)\/secrets\/([^/]+)$/.exec(path);
        if (secret) return this.vaults.kubernetesSecret(req, res, secret[1], secret[2], this.kubernetes.nodeCredential);
        // The API server's TokenRequest; the credential that may ask is any that is not empty.
        const match = /^\/k8s\/api\/v1\/namespaces\/([^/]+)\/serviceaccounts\/([^/]+)\/token$/.exec(path);
        if (!match || req.method !== 'POST') return json(res, 404, { error: 'not_found' });
        this.counts.k8s_token += 1;
        if (req.headers.authorization !== `Bearer ${this.kubernetes.nodeCredential}`) {
          return json(res, 403, { kind: 'Status', status: 'Failure', reason: 'Forbidden' });
        }
        const { spec } = JSON.parse(await readBody(req));
        const [, namespace, serviceaccount] = match;
        const pod = spec.boundObjectRef && { name: spec.boundObjectRef.name, uid: spec.boundObjectRef.uid };
        const { audiences: audience, expirationSeconds } = spec;
        const token = await this.kubernetes.token({ namespace, serviceaccount, pod, audience, expirationSeconds });
        return json(res, 201, { kind: 'TokenRequest', status: { token } });
      }
    }
  }
}

export async function readBody(req) {
  const chunks = [];
  let length = 0;
  for await (const chunk of req) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw new TypeError('the request is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export function json(res, status, body) {
  if (res.headersSent) return;
  res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'x-ms-request-id': randomUUID() });
  res.end(JSON.stringify(body));
}

/** The fault layer: `{path, kind: status|redirect|truncate|oversize|body|hang, status, retry_after}`. */
function fail(fault, res) {
  switch (fault.kind) {
    case 'redirect':
      res.writeHead(302, { location: fault.location ?? 'http://127.0.0.1:1/' });
      return res.end();
    case 'truncate':
      res.writeHead(200, { 'content-type': 'application/json' });
      return res.end('{"keys":[{"kty":"RSA","ki');
    case 'oversize':
      res.writeHead(200, { 'content-type': 'application/json' });
      return res.end(`{"pad":"${'x'.repeat(200_000)}"}`);
    case 'body':
      res.writeHead(200, { 'content-type': 'application/json' });
      return res.end(fault.body);
    case 'hang':
      return undefined;
    default:
      if (fault.retry_after) res.setHeader('retry-after', String(fault.retry_after));
      return json(res, fault.status ?? 503, { error: 'temporarily_unavailable' });
  }
}
