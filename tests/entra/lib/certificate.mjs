// Assertions that an application signs with its own certificate.

import { X509Certificate, createHash } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { Aadsts } from './aadsts.mjs';

const LIFE_S_MAX = 600;

export function isSelfIssued(app, assertion) {
  try {
    return decodeJwt(assertion).iss === app.client_id;
  } catch {
    return false;
  }
}

/** Each assertion works once, for this tenant's token endpoint, signed by a registered certificate. */
export async function checkCertificate(tenant, app, assertion) {
  const header = decodeProtectedHeader(assertion);
  const known = (app.certificates ?? []).map((pem) => new X509Certificate(pem));
  const thumbprint = (c) => createHash('sha256').update(c.raw).digest('base64url');
  const certificate = known.find((c) => thumbprint(c) === header['x5t#S256']);
  if (!certificate) {
    throw new Aadsts(401, 'invalid_client', 700027, 'The certificate with this thumbprint is not registered.');
  }
  let payload;
  try {
    ({ payload } = await jwtVerify(assertion, certificate.publicKey, {
      algorithms: ['PS256', 'RS256'],
      issuer: app.client_id,
      subject: app.client_id,
      audience: tenant.discovery().token_endpoint,
      requiredClaims: ['jti', 'nbf', 'exp'],
      clockTolerance: 300,
    }));
  } catch (cause) {
    const late = cause.code === 'ERR_JWT_EXPIRED';
    throw new Aadsts(401, 'invalid_client', late ? 700024 : 700027, 'The client assertion is invalid.');
  }
  if (payload.exp - payload.nbf > LIFE_S_MAX) {
    throw new Aadsts(401, 'invalid_client', 700024, 'The client assertion lives too long.');
  }
  if (!tenant.firstUse(payload.jti)) {
    throw new Aadsts(401, 'invalid_client', 700027, 'The client assertion was used before.');
  }
}
