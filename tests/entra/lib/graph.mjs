// A stub of Microsoft Graph: memberships by object id.

import { json } from './entra.mjs';

export function graph(entra, _req, res, pathname) {
  const match = /^\/graph\/v1\.0\/(users|servicePrincipals)\/([0-9a-f-]+)\/getMemberObjects$/.exec(pathname);
  if (!match) return json(res, 404, { error: { code: 'Request_ResourceNotFound' } });
  const [, kind, oid] = match;
  for (const tenant of entra.tenants.values()) {
    const list = kind === 'users' ? tenant.config.users : tenant.config.apps;
    const principal = (list ?? []).find((p) => p.oid === oid);
    if (principal) return json(res, 200, { value: tenant.groupsOf(principal) });
  }
  // A principal's oid below /users is not found, as in Graph.
  return json(res, 404, { error: { code: 'Request_ResourceNotFound', message: `Resource '${oid}' does not exist.` } });
}
