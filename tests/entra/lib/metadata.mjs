// A stub of a machine's metadata service. Its numbers are strings, as there.

import { json } from './entra.mjs';

export async function metadata(entra, req, res, url) {
  if (req.headers.metadata !== 'true' || req.headers['x-forwarded-for']) {
    return json(res, 400, { error: 'invalid_request', error_description: 'Required metadata header not specified' });
  }
  if (url.pathname !== '/imds/metadata/identity/oauth2/token' || url.searchParams.get('api-version') !== '2018-02-01') {
    return json(res, 404, { error: 'not_found' });
  }
  const clientId = url.searchParams.get('client_id');
  const resource = url.searchParams.get('resource');
  for (const tenant of entra.tenants.values()) {
    const app = tenant.app(clientId);
    const api = tenant.api(resource);
    if (!app?.on_machine || !api) continue;
    const v1 = entra.metadataVersion === 1;
    const claims = {
      aud: v1 ? resource : api.client_id, azpacr: '2', idtyp: 'app', oid: app.oid, sub: app.oid, uti: 'metadata',
      roles: app.roles, ...(v1
        ? { ver: '1.0', appid: clientId, iss: `https://sts.windows.net/${tenant.tid}/` }
        : { azp: clientId }),
    };
    const now = Math.floor(Date.now() / 1000);
    return json(res, 200, {
      access_token: await tenant.mint({ ...claims, exp: now + 86400 }),
      client_id: clientId, expires_in: '86399', expires_on: String(now + 86400), ext_expires_in: '86399',
      not_before: String(now), resource, token_type: 'Bearer',
    });
  }
  return json(res, 400, { error: 'invalid_request', error_description: 'Identity not found' });
}
