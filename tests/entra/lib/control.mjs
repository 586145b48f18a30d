// What a test does to the directory. Bodies and answers are JSON; `tid` defaults to the first tenant.

import { randomBytes } from 'node:crypto';
import { json, readBody } from './entra.mjs';

export async function control(entra, req, res, pathname) {
  const body = req.method === 'POST' ? JSON.parse((await readBody(req)) || '{}') : {};
  const tenant = body.tid ? entra.tenants.get(body.tid) : entra.tenants.values().next().value;
  if (!tenant) return json(res, 404, { error: 'no such tenant' });
  switch (`${req.method} ${pathname}`) {
    case 'POST /control/rotate-keys':
      return json(res, 200, { kid: await tenant.rotate({ dropOld: body.drop_old === true }) });
    case 'POST /control/disable':
    case 'POST /control/enable': {
      const principal = tenant.find(body.app ?? body.user);
      if (!principal) return json(res, 404, { error: 'no such principal' });
      tenant.setDisabled(principal, pathname.endsWith('disable'));
      return json(res, 200, { ok: true });
    }
    case 'POST /control/device':
      return device(tenant, body, res);
    // `{user, approve, nonce, answer}`: who sits at the browser; the last two falsify what comes back.
    case 'POST /control/browser':
      entra.browser = body;
      return json(res, 200, { ok: true });
    case 'POST /control/certificate': {
      const app = tenant.find(body.app);
      app.certificates = [...(app.certificates ?? []), body.certificate];
      return json(res, 200, { ok: true });
    }
    case 'POST /control/secret': {
      const app = tenant.find(body.app);
      app.secret = randomBytes(24).toString('hex');
      return json(res, 200, { secret: app.secret });
    }
    case 'POST /control/redirect': {
      const client = tenant.publicClient(body.client_id);
      client.redirect_uris = [...(client.redirect_uris ?? []), body.uri];
      return json(res, 200, { ok: true });
    }
    case 'POST /control/groups': {
      Object.assign(tenant.find(body.app ?? body.user), body.set);
      return json(res, 200, { ok: true });
    }
    // `{seconds}`: how far the clock is that answers show.
    case 'POST /control/clock':
      entra.clockOffsetS = body.seconds;
      return json(res, 200, { ok: true });
    // `{api, set}`: such as `assignment_required`.
    case 'POST /control/api':
      Object.assign(tenant.config.apis.find((api) => api.name === body.api), body.set);
      return json(res, 200, { ok: true });
    case 'POST /control/metadata':
      entra.metadataVersion = body.version;
      return json(res, 200, { ok: true });
    case 'POST /control/vault':
      entra.vaults.set(body.path, body.value);
      return json(res, 200, { token: entra.vaults.token });
    case 'GET /control/minted':
      return json(res, 200, tenant.minted);
    case 'GET /control/node-credential':
      return json(res, 200, { token: entra.kubernetes.nodeCredential });
    case 'POST /control/mint':
      return json(res, 200, { token: await tenant.mint(body.claims ?? {}, body.header ?? {}) });
    case 'POST /control/fault':
      entra.fault = body.path ? body : null;
      return json(res, 200, { ok: true });
    case 'GET /control/counts':
      return json(res, 200, entra.counts);
    default:
      return json(res, 404, { error: 'no such control' });
  }
}

/** `{user_code, user, approve: true|false}` */
async function device(tenant, body, res) {
  const user = tenant.user(body.user);
  if (typeof body.user_code !== 'string' || !user) {
    return json(res, 400, { error: 'user_code and a known user are needed' });
  }
  if (tenant.isDisabled(user)) return json(res, 403, { error: 'the user is disabled' });
  const done = await tenant.answerDevice(body.user_code, user, body.approve !== false);
  return done ? json(res, 200, { ok: true }) : json(res, 404, { error: 'no such code, or already used' });
}
