// The authorization endpoint, and the person in front of the browser.
//
// Who signs in: `login_hint` of the request, else whoever `/control/browser` put there, else a page
// that asks. There are no passwords and no cookies: a click is a sign-in.

import { Aadsts } from './aadsts.mjs';
import { splitScope } from './token.mjs';

const STYLE = `<style>body{font:16px system-ui;max-width:24rem;margin:12vh auto;padding:0 1rem;color:#222;background:#f4f6f8}
ul{list-style:none;padding:0}a{display:block;padding:.8rem 1rem;margin:.5rem 0;border-radius:.5rem;background:#fff;
color:inherit;text-decoration:none;border:1px solid #d6dbe1}a:hover,a:focus{border-color:#2563eb}</style>`;
const LOOPBACK = new Set(['127.0.0.1', 'localhost']);

/** Of the request; what is wrong with client or redirect is shown, never sent to the redirect. */
export async function authorize(entra, tenant, res, url) {
  const query = url.searchParams;
  const client = tenant.publicClient(query.get('client_id'));
  if (!client) return page(res, 400, `AADSTS700016: Application with identifier '${query.get('client_id')}' was not found in the directory.`);
  const redirect = query.get('redirect_uri') ?? '';
  if (!registered(client, redirect)) {
    return page(res, 400, `AADSTS50011: The redirect URI '${redirect}' specified in the request does not match the redirect URIs configured for the application.`);
  }
  let asked;
  try {
    asked = check(tenant, query);
  } catch (cause) {
    if (!(cause instanceof Aadsts)) throw cause;
    return back(res, redirect, query, { error: cause.error, error_description: `AADSTS${cause.number}: ${cause.message}` });
  }
  const chosen = query.get('user') ?? query.get('login_hint') ?? entra.browser.user;
  const user = chosen && tenant.user(chosen.split('@')[0]);
  if (!user) return people(res, tenant, url);
  if (tenant.isDisabled(user)) return page(res, 200, 'AADSTS50057: The user account is disabled.');
  if (entra.browser.approve === false) {
    return back(res, redirect, query, { error: 'access_denied', error_description: 'AADSTS65004: User declined to consent to access the app.' });
  }
  const code = await tenant.authorizationCode(user, client, { ...asked, redirect, nonce: entra.browser.nonce ?? query.get('nonce') ?? undefined });
  return back(res, redirect, query, { code, ...(entra.browser.answer ?? {}) });
}

function check(tenant, query) {
  if (query.get('response_type') !== 'code') {
    throw new Aadsts(400, 'unsupported_response_type', 700054, "response_type 'id_token' is not enabled for the application.");
  }
  if (!query.get('code_challenge') || query.get('code_challenge_method') !== 'S256') {
    throw new Aadsts(400, 'invalid_request', 9002325, 'Proof Key for Code Exchange is required for cross-origin authorization code redemption.');
  }
  return { ...splitScope(tenant, query.get('scope') ?? ''), challenge: query.get('code_challenge') };
}

/** As Entra does: the port of a loopback address does not count, the path does. */
export function registered(client, redirect) {
  const uris = client.redirect_uris ?? ['http://127.0.0.1/', 'http://localhost/'];
  let asked;
  try {
    asked = new URL(redirect);
  } catch {
    return false;
  }
  return uris.some((text) => {
    const uri = new URL(text);
    const samePort = uri.port === asked.port || (LOOPBACK.has(uri.hostname) && LOOPBACK.has(asked.hostname));
    return uri.protocol === asked.protocol && uri.hostname === asked.hostname && samePort
      && uri.pathname === asked.pathname && asked.hash === '' && asked.search === uri.search;
  });
}

function back(res, redirect, query, parameters) {
  const url = new URL(redirect);
  const all = { state: query.get('state') ?? '', session_state: 'c0ffee', ...parameters };
  for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value);
  res.writeHead(302, { location: url.href, 'cache-control': 'no-store' });
  res.end();
}

function people(res, tenant, url) {
  const links = (tenant.config.users ?? []).map((user) => {
    const as = new URL(url);
    as.searchParams.set('user', user.name);
    const belongs = [...(user.groups ?? []), ...(user.roles ?? [])].join(', ') || 'no group';
    return `<li><a id="user-${escape(user.name)}" href="${escape(as.pathname + as.search)}"><b>${escape(user.upn ?? user.name)}</b><br><small>${escape(belongs)}</small></a>`;
  });
  return page(res, 200, 'Who signs in?', `<ul>${links.join('')}</ul>`);
}

function page(res, status, text, html = '') {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(`<!doctype html><meta name="viewport" content="width=device-width"><title>test Entra</title>${STYLE}<p>${escape(text)}</p>${html}\n`);
}

function escape(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
