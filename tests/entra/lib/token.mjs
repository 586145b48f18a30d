// The token endpoint in front of oidc-provider: what Entra checks and oidc-provider does not.

import { Aadsts } from './aadsts.mjs';
import { AGENT_AUDIENCE, agentAssertion, checkAgentAssertion } from './agent.mjs';
import { checkCertificate, isSelfIssued } from './certificate.mjs';
import { ASSERTION_TYPE, checkAssertion } from './federation.mjs';

/** Checks and rewrites a token request; the result is oidc-provider's form body. */
export async function prepareToken(tenant, form, kubernetes) {
  const grant = form.get('grant_type');
  const clientId = form.get('client_id');
  if (grant === 'client_credentials') return clientCredentials(tenant, form, clientId, kubernetes);
  const client = tenant.publicClient(clientId);
  if (!client) throw unknownApp(clientId);
  const body = Object.fromEntries(form);
  if (client.secret && form.get('client_secret') !== client.secret) {
    throw new Aadsts(401, 'invalid_client', 7000215, 'Invalid client secret provided.');
  }
  delete body.client_secret;
  if (grant === 'refresh_token') await tenant.checkRefresh(body.refresh_token);
  if (body.scope) Object.assign(body, splitScope(tenant, body.scope));
  if (grant === 'urn:ietf:params:oauth:grant-type:device_code' || grant === 'authorization_code') {
    delete body.scope;
    delete body.resource;
  }
  return body;
}

/** Checks and rewrites a device authorization request. */
export function prepareDevice(tenant, form) {
  const clientId = form.get('client_id');
  if (!tenant.publicClient(clientId)) throw unknownApp(clientId);
  return { client_id: clientId, ...splitScope(tenant, form.get('scope') ?? '') };
}

async function clientCredentials(tenant, form, clientId, kubernetes) {
  const app = tenant.app(clientId);
  if (!app) throw unknownApp(clientId);
  const scope = form.get('scope') ?? '';
  if (!scope.endsWith('/.default')) {
    throw new Aadsts(400, 'invalid_scope', 1002012,
      `The provided value for scope ${scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.`);
  }
  const resource = scope.slice(0, -'/.default'.length);
  const agentPath = form.get('fmi_path');
  if (resource === AGENT_AUDIENCE && agentPath) {
    await authenticate(tenant, app, form, kubernetes);
    if (tenant.isDisabled(app)) {
      throw new Aadsts(400, 'unauthorized_client', 7000112, `Application '${clientId}' is disabled.`);
    }
    return { answer: await agentAssertion(tenant, app, agentPath) };
  }
  if ((resource === `${tenant.origin}/graph` || resource === `${tenant.origin}/keyvault`) && app.graph) {
    await authenticate(tenant, app, form, kubernetes);
    const token = await tenant.mint({ aud: resource, azp: clientId, oid: app.oid, idtyp: 'app' });
    return { answer: { token_type: 'Bearer', expires_in: 3600, access_token: token } };
  }
  const api = tenant.api(resource);
  if (!api) {
    throw new Aadsts(400, 'invalid_resource', 500011,
      `The resource principal named ${resource} was not found in the tenant.`);
  }
  await authenticate(tenant, app, form, kubernetes);
  if (tenant.isDisabled(app)) {
    throw new Aadsts(400, 'unauthorized_client', 7000112, `Application '${clientId}' is disabled.`);
  }
  if (api.assignment_required && !app.roles?.length) {
    throw new Aadsts(400, 'invalid_grant', 501051, `Application '${clientId}' is not assigned to a role for the application '${api.client_id}'.`);
  }
  return {
    grant_type: 'client_credentials',
    client_id: clientId,
    client_secret: tenant.internalSecret,
    resource: `api://${api.client_id}`,
  };
}

async function authenticate(tenant, app, form, kubernetes) {
  const assertion = form.get('client_assertion');
  if (assertion) {
    if (form.get('client_assertion_type') !== ASSERTION_TYPE) {
      throw new Aadsts(400, 'invalid_request', 900144, "The request body must contain the parameter 'client_assertion_type'.");
    }
    if (app.blueprint) return checkAgentAssertion(tenant, app, assertion);
    if (isSelfIssued(app, assertion)) return checkCertificate(tenant, app, assertion);
    await checkAssertion(app, assertion, kubernetes);
    return;
  }
  const secret = form.get('client_secret');
  if (!secret) {
    throw new Aadsts(401, 'invalid_client', 7000218, "The request body must contain 'client_assertion' or 'client_secret'.");
  }
  if (!app.secret || app.secret !== secret) {
    throw new Aadsts(401, 'invalid_client', 7000215, 'Invalid client secret provided.');
  }
}

/** `api://x/Scope openid` becomes the RFC 8707 resource and plain scopes. */
export function splitScope(tenant, scope) {
  const plain = [];
  let resource;
  for (const word of scope.split(' ').filter(Boolean)) {
    const match = /^(api:\/\/[^/]+)\/(.+)$/.exec(word);
    if (!match) {
      plain.push(word);
      continue;
    }
    const api = tenant.api(match[1]);
    if (!api) throw new Aadsts(400, 'invalid_resource', 500011, `The resource principal named ${match[1]} was not found in the tenant.`);
    if (!api.scopes.includes(match[2])) throw new Aadsts(400, 'invalid_scope', 70011, `The scope ${word} is not valid.`);
    resource = `api://${api.client_id}`;
    plain.push(match[2]);
  }
  return { scope: plain.join(' '), ...(resource && { resource }) };
}

function unknownApp(clientId) {
  return new Aadsts(400, 'unauthorized_client', 700016, `Application with identifier '${clientId}' was not found in the directory.`);
}
