// A stub of Microsoft Graph: memberships by object id.

import { decodeJwt } from 'jose';
import { json } from './entra.mjs';

const PAGE = 2;

export function graph(entra, req, res, url) {
  if (!authorised(entra, req)) {
    return json(res, 401, { error: { code: 'InvalidAuthenticationToken' } });
  }
  const account = /^\/graph\/v1\.0\/(users|servicePrincipals)\/([0-9a-f-]+)$/.exec(url.pathname);
  if (account) return accountEnabled(entra, res, account[1], account[2]);
  const match = /^\/graph\/v1\.0\/(users|servicePrincipals)\/([0-9a-f-]+)\/(getMemberObjects|transitiveMemberOf)$/.exec(url.pathname);
  if (!match) return json(res, 404, { error: { code: 'Request_ResourceNotFound' } });
  const [, kind, oid, call] = match;
  for (const tenant of entra.tenants.values()) {
    const list = kind === 'users' ? tenant.config.users : tenant.config.apps;
    const principal = (list ?? []).find((p) => p.oid === oid);
    if (!principal) continue;
    const groups = tenant.groupsOf(principal);
    if (call === 'transitiveMemberOf') return page(entra, res, url, groups, principal);
    if (principal.graph_too_many) {
      return json(res, 400, { error: { code: 'Directory_ResultSizeLimitExceeded' } });
    }
    return json(res, 200, { value: groups });
  }
  // A principal's oid below /users is not found, as in Graph.
  return json(res, 404, { error: { code: 'Request_ResourceNotFound', message: `Resource '${oid}' does not exist.` } });
}

function accountEnabled(entra, res, kind, oid) {
  for (const tenant of entra.tenants.values()) {
    const list = kind === 'users' ? tenant.config.users : tenant.config.apps;
    const principal = (list ?? []).find((p) => p.oid === oid);
    if (principal) return json(res, 200, { accountEnabled: !tenant.isDisabled(principal) });
  }
  return json(res, 404, { error: { code: 'Request_ResourceNotFound', message: `Resource '${oid}' does not exist.` } });
}

function page(entra, res, url, groups, principal) {
  const from = Number(url.searchParams.get('$skiptoken') ?? 0);
  const body = { value: groups.slice(from, from + PAGE).map((id) => ({ id })) };
  if (from + PAGE < groups.length) {
    const origin = principal.graph_foreign_next ?? entra.origin;
    body['@odata.nextLink'] = `${origin}${url.pathname}?$skiptoken=${from + PAGE}`;
  }
  return json(res, 200, body);
}

function authorised(entra, req) {
  try {
    const { aud } = decodeJwt((req.headers.authorization ?? '').replace(/^Bearer /, ''));
    return aud === `${entra.origin}/graph`;
  } catch {
    return false;
  }
}
