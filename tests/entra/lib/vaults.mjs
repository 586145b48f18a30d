// Stand-ins for the places where backends' secrets are kept: Vault KV v2, Azure Key Vault, and
// Secrets of the Kubernetes API.

import { randomBytes } from 'node:crypto';
import { decodeJwt } from 'jose';
import { json } from './entra.mjs';

export class Vaults {
  token = randomBytes(24).toString('hex');
  #values = new Map();

  set(path, value) {
    this.#values.set(path, value);
  }

  /** `/vault/v1/MOUNT/data/NAME` */
  vault(req, res, pathname) {
    if (req.headers['x-vault-token'] !== this.token) return json(res, 403, { errors: ['permission denied'] });
    const value = this.#values.get(pathname.slice('/vault/v1/'.length));
    if (value === undefined) return json(res, 404, { errors: [] });
    return json(res, 200, { data: { data: { password: value, number: 7 }, metadata: { version: 1 } } });
  }

  /** `/keyvault/secrets/NAME?api-version=…` */
  keyVault(entra, req, res, url) {
    let aud;
    try {
      ({ aud } = decodeJwt((req.headers.authorization ?? '').replace(/^Bearer /, '')));
    } catch {
      aud = undefined;
    }
    if (aud !== `${entra.origin}/keyvault`) return json(res, 401, { error: { code: 'Unauthorized' } });
    const value = this.#values.get(url.pathname.slice('/keyvault/secrets/'.length));
    if (value === undefined || !url.searchParams.get('api-version')) {
      return json(res, 404, { error: { code: 'SecretNotFound' } });
    }
    return json(res, 200, { value, id: url.pathname, attributes: { enabled: true } });
  }

  kubernetesSecret(req, res, namespace, name, credential) {
    if (req.headers.authorization !== `Bearer ${credential}`) return json(res, 403, { reason: 'Forbidden' });
    const value = this.#values.get(`${namespace}/${name}`);
    if (value === undefined) return json(res, 404, { reason: 'NotFound' });
    const data = { password: Buffer.from(`${value}\n`).toString('base64') };
    return json(res, 200, { kind: 'Secret', data });
  }
}
