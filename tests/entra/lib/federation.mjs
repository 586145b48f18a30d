// The checks Entra makes on a federated client assertion.

import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, errors, jwtVerify } from 'jose';
import { Aadsts } from './aadsts.mjs';

export const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** Throws [`Aadsts`] unless `assertion` proves `app`. Returns the id of the credential that matched. */
export async function checkAssertion(app, assertion, kubernetes) {
  let claims;
  let header;
  try {
    header = decodeProtectedHeader(assertion);
    claims = decodeJwt(assertion);
  } catch {
    throw new Aadsts(401, 'invalid_client', 50027, 'JWT token is invalid or malformed.');
  }
  if (header.alg !== 'RS256') {
    throw new Aadsts(401, 'invalid_client', 5002738, 'Only RS256 is accepted for federated assertions.');
  }
  const audience = Array.isArray(claims.aud) && claims.aud.length === 1 ? claims.aud[0] : claims.aud;
  const credential = matching(app, claims, audience);
  if (claims.iss !== kubernetes.issuer) {
    throw new Aadsts(401, 'invalid_client', 50166, `Request to External OIDC endpoint ${claims.iss} failed.`);
  }
  try {
    await jwtVerify(assertion, createLocalJWKSet(kubernetes.jwks()), { algorithms: ['RS256'], clockTolerance: 300 });
  } catch (cause) {
    if (cause instanceof errors.JWTExpired || cause instanceof errors.JWTClaimValidationFailed) {
      throw new Aadsts(401, 'invalid_client', 700024, 'Client assertion is not within its valid time range.');
    }
    throw new Aadsts(401, 'invalid_client', 7000272, 'The signature of the federated assertion is invalid.');
  }
  return credential.id;
}

function matching(app, claims, audience) {
  const all = app.federated_credentials ?? [];
  const sameIssuer = all.filter((c) => c.issuer === claims.iss);
  if (sameIssuer.length === 0) {
    throw new Aadsts(401, 'invalid_client', 700211,
      `No matching federated identity record found for presented assertion issuer '${claims.iss}'.`);
  }
  const sameSubject = sameIssuer.filter((c) => c.subject === claims.sub);
  if (sameSubject.length === 0) {
    throw new Aadsts(401, 'invalid_client', 700213,
      `No matching federated identity record found for presented assertion subject '${claims.sub}'.`);
  }
  const credential = sameSubject.find((c) => c.audience === audience);
  if (!credential) {
    throw new Aadsts(401, 'invalid_client', 700212,
      `No matching federated identity record found for presented assertion audience '${audience}'.`);
  }
  return credential;
}
