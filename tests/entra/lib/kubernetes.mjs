// A Kubernetes service-account issuer: discovery, keys and a TokenRequest-like endpoint (no RBAC).

import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import { Keyring } from './keyring.mjs';

/** A stable uid from a name, so that tests need not care. */
function uidOf(...parts) {
  const h = createHash('sha256').update(parts.join('\0')).digest('hex');
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-4${h.slice(13, 16)}-8${h.slice(17, 20)}-${h.slice(20, 32)}`;
}

export class Kubernetes {
  #ring;
  #config;

  static async create(config, origin) {
    const issuer = new Kubernetes();
    issuer.#config = config;
    issuer.issuer = `${origin}/k8s`;
    issuer.nodeCredential = randomBytes(24).toString('hex');
    issuer.#ring = await Keyring.create();
    return issuer;
  }

  discovery() {
    return {
      issuer: this.issuer,
      jwks_uri: `${this.issuer}/openid/v1/jwks`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
      id_token_signing_alg_values_supported: ['RS256'],
    };
  }

  jwks() {
    return { keys: this.#ring.published({ alg: 'RS256' }) };
  }

  /**
   * `{namespace, serviceaccount, pod: {name, uid}, node, audience, expirationSeconds}`;
   * all but the first two are optional. Seconds may be negative, for an expired token.
   */
  async token(request) {
    const { namespace, serviceaccount } = request;
    if (typeof namespace !== 'string' || typeof serviceaccount !== 'string') {
      throw new TypeError('namespace and serviceaccount are required');
    }
    const pod = request.pod ?? { name: `${serviceaccount}-0` };
    const node = request.node ?? 'lab-node';
    const life = request.expirationSeconds ?? this.#config?.expiration_s ?? 3600;
    const now = Math.floor(Date.now() / 1000);
    const audience = request.audience ?? this.#config?.audience ?? 'api://AzureADTokenExchange';
    const claims = {
      aud: [].concat(audience),
      exp: now + life,
      iat: now + Math.min(life, 0),
      iss: this.issuer,
      jti: randomUUID(),
      'kubernetes.io': {
        namespace,
        node: { name: node, uid: uidOf('node', node) },
        pod: { name: pod.name, uid: pod.uid ?? uidOf('pod', namespace, pod.name) },
        serviceaccount: { name: serviceaccount, uid: uidOf('sa', namespace, serviceaccount) },
      },
      nbf: now + Math.min(life, 0),
      sub: `system:serviceaccount:${namespace}:${serviceaccount}`,
    };
    const { kid, privateKey } = this.#ring.signing;
    return new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey);
  }
}
