// Entra Agent ID: a blueprint asks for an assertion in the name of one of its agent identities.

import { createLocalJWKSet, jwtVerify } from 'jose';
import { Aadsts } from './aadsts.mjs';

export const AGENT_AUDIENCE = 'api://AzureADTokenExchange';

/** The token answer of the first step. */
export async function agentAssertion(tenant, blueprint, agentId) {
  const agent = tenant.app(agentId);
  if (!agent || agent.blueprint !== blueprint.client_id) {
    throw new Aadsts(400, 'invalid_request', 7000229, `The blueprint has no agent identity '${agentId}'.`);
  }
  const claims = { aud: AGENT_AUDIENCE, sub: agentId, azp: blueprint.client_id, oid: blueprint.oid, idtyp: 'app' };
  return { token_type: 'Bearer', expires_in: 3600, access_token: await tenant.mint(claims) };
}

/** The second step: the assertion is the tenant's own, for this very agent. */
export async function checkAgentAssertion(tenant, agent, assertion) {
  const blueprint = tenant.app(agent.blueprint);
  try {
    const { payload } = await jwtVerify(assertion, createLocalJWKSet(tenant.jwks()), {
      algorithms: ['RS256'], issuer: tenant.issuer, audience: AGENT_AUDIENCE, subject: agent.client_id,
    });
    if (payload.azp !== agent.blueprint) throw new Error('another blueprint');
  } catch {
    throw new Aadsts(401, 'invalid_client', 700213, 'The assertion is not of this agent identity.');
  }
  if (!blueprint || tenant.isDisabled(blueprint)) {
    throw new Aadsts(400, 'unauthorized_client', 7000112, `Application '${agent.blueprint}' is disabled.`);
  }
}
