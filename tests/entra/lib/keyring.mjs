// Signing keys that can rotate: the newest signs, older ones stay published until dropped.

import { createHash } from 'node:crypto';
import { exportJWK, generateKeyPair } from 'jose';

export class Keyring {
  #keys = [];

  static async create() {
    const ring = new Keyring();
    await ring.rotate();
    return ring;
  }

  /** A new signing key in front. With `dropOld` the earlier ones disappear at once. */
  async rotate({ dropOld = false } = {}) {
    const pair = await generateKeyPair('RS256', { modulusLength: 2048, extractable: true });
    const jwk = await exportJWK(pair.privateKey);
    const kid = createHash('sha256').update(jwk.n).digest('base64url').slice(0, 27);
    const key = { kid, privateKey: pair.privateKey, jwk: { ...jwk, kid } };
    this.#keys = dropOld ? [key] : [key, ...this.#keys];
    return key;
  }

  get signing() {
    return this.#keys[0];
  }

  /** Private JWKs, for oidc-provider. */
  get privateJwks() {
    return this.#keys.map(({ jwk }) => ({ ...jwk, use: 'sig', alg: 'RS256' }));
  }

  /** As Entra publishes them: no `alg`. */
  published(extra = {}) {
    return this.#keys.map(({ jwk: { n, e, kid } }) => ({
      kty: 'RSA', use: 'sig', kid, x5t: kid, n, e, ...extra,
    }));
  }
}
