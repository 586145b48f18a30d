// One Entra tenant: directory, keys, oidc-provider and the token shapes.

import { createHash, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';
import { SignJWT } from 'jose';
import { Aadsts, aadstsBody } from './aadsts.mjs';
import { Keyring } from './keyring.mjs';

const GROUPS_MAX = 200;
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';

/** Entra's names and numbers for the refusals of oidc-provider. */
const REFUSALS = {
  authorization_pending: ['authorization_pending', 70016, 'OAuth 2.0 device flow error. Authorization is pending. Continue polling.'],
  access_denied: ['authorization_declined', 70018, 'The end user has denied the authorization request.'],
  expired_token: ['expired_token', 70020, 'The provided value for the device code is expired.'],
  invalid_grant: ['invalid_grant', 70000, 'The provided grant is invalid or malformed.'],
  invalid_target: ['invalid_resource', 500011, 'The resource principal was not found in the tenant.'],
  invalid_scope: ['invalid_scope', 70011, 'The provided value for the input parameter scope is not valid.'],
  invalid_client: ['unauthorized_client', 700016, 'Application was not found in the directory.'],
};

export class Tenant {
  #internalSecret = randomBytes(32).toString('hex');
  #disabled = new Set();
  #assertions = new Set();
  minted = [];
  #provider;
  #callback;

  static async create(config, origin) {
    const tenant = new Tenant();
    tenant.config = config;
    tenant.tid = config.tid;
    tenant.origin = origin;
    tenant.issuer = `${origin}/${config.tid}/v2.0`;
    tenant.keyring = await Keyring.create();
    tenant.#rebuild();
    return tenant;
  }

  app(clientId) {
    return (this.config.apps ?? []).find((a) => a.client_id === clientId);
  }

  publicClient(clientId) {
    return (this.config.public_clients ?? []).find((c) => c.client_id === clientId);
  }

  user(nameOrOid) {
    return (this.config.users ?? []).find((u) => u.name === nameOrOid || u.oid === nameOrOid);
  }

  /** By `api://{guid}` or the guid. */
  api(identifier) {
    return (this.config.apis ?? []).find((a) => identifier === `api://${a.client_id}` || identifier === a.client_id);
  }

  /** A principal by name, client id or object id. */
  find(which) {
    const all = [...(this.config.apps ?? []), ...(this.config.users ?? []), ...(this.config.public_clients ?? [])];
    return all.find((p) => [p.name, p.client_id, p.oid].includes(which));
  }

  groupsOf(principal) {
    return (principal.groups ?? []).map((g) => this.config.groups?.[g] ?? g);
  }

  setDisabled(principal, disabled) {
    const key = principal.oid ?? principal.client_id;
    if (disabled) this.#disabled.add(key); else this.#disabled.delete(key);
  }

  isDisabled(principal) {
    return this.#disabled.has(principal.oid ?? principal.client_id);
  }

  /** False for an assertion's id that was seen before. */
  firstUse(jti) {
    if (this.#assertions.has(jti)) return false;
    this.#assertions.add(jti);
    return true;
  }

  get internalSecret() {
    return this.#internalSecret;
  }

  async rotate(options) {
    const key = await this.keyring.rotate(options);
    this.#rebuild();
    return key.kid;
  }

  discovery() {
    const base = `${this.origin}/${this.tid}`;
    return {
      token_endpoint: `${base}/oauth2/v2.0/token`,
      token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
      jwks_uri: `${base}/discovery/v2.0/keys`,
      response_modes_supported: ['query', 'fragment', 'form_post'],
      subject_types_supported: ['pairwise'],
      id_token_signing_alg_values_supported: ['RS256'],
      response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
      scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
      issuer: this.issuer,
      request_uri_parameter_supported: false,
      userinfo_endpoint: `${this.origin}/graph/oidc/userinfo`,
      authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
      device_authorization_endpoint: `${base}/oauth2/v2.0/devicecode`,
      http_logout_supported: true,
      frontchannel_logout_supported: true,
      end_session_endpoint: `${base}/oauth2/v2.0/logout`,
      claims_supported: ['sub', 'iss', 'aud', 'exp', 'iat', 'nonce', 'preferred_username', 'name', 'tid', 'ver'],
      tenant_region_scope: null,
      cloud_instance_name: 'microsoftonline.com',
      cloud_graph_host_name: 'graph.windows.net',
      msgraph_host: `${new URL(this.origin).host}/graph`,
      rbac_url: 'https://pas.windows.net',
    };
  }

  /** Version 1, which Weir never asks for. */
  discoveryV1() {
    const base = `${this.origin}/${this.tid}`;
    return {
      ...this.discovery(),
      issuer: `https://sts.windows.net/${this.tid}/`,
      token_endpoint: `${base}/oauth2/token`,
      authorization_endpoint: `${base}/oauth2/authorize`,
      device_authorization_endpoint: `${base}/oauth2/devicecode`,
      jwks_uri: `${base}/discovery/keys`,
    };
  }

  jwks() {
    return { keys: this.keyring.published({ issuer: this.issuer }) };
  }

  /** Hands a request below `/{tid}` to oidc-provider; `body` replaces one that was read already. */
  pass(req, res, body) {
    req.originalUrl = req.url;
    req.url = req.url.slice(this.tid.length + 1);
    if (body) req.body = body;
    return this.#callback(req, res);
  }

  /** What a person does in the browser at `verification_uri`. */
  async answerDevice(userCode, user, approve) {
    const code = await this.#provider.DeviceCode.findByUserCode(userCode.toUpperCase().replace(/\W/g, ''));
    if (!code || code.accountId || code.error) return false;
    if (!approve) {
      Object.assign(code, { error: 'access_denied', errorDescription: 'declined' });
      await code.save();
      return true;
    }
    const scope = code.params.scope ?? '';
    const grant = new this.#provider.Grant({ accountId: user.oid, clientId: code.clientId });
    grant.addOIDCScope('openid profile offline_access');
    if (code.params.resource) grant.addResourceScope(code.params.resource, scope);
    Object.assign(code, {
      accountId: user.oid,
      authTime: Math.floor(Date.now() / 1000),
      grantId: await grant.save(),
      scope,
      resource: code.params.resource,
    });
    await code.save();
    return true;
  }

  /** A refresh token is worth as much as the account is. */
  async checkRefresh(value) {
    const token = await this.#provider.RefreshToken.find(value);
    const user = token && this.user(token.accountId);
    if (user && this.isDisabled(user)) throw new Aadsts(400, 'invalid_grant', 50057, 'The user account is disabled.');
  }

  /** What a sign-in by browser comes back with; used once, by whoever has the verifier. */
  async authorizationCode(user, client, { scope, resource, challenge, redirect, nonce }) {
    const grant = new this.#provider.Grant({ accountId: user.oid, clientId: client.client_id });
    grant.addOIDCScope('openid profile offline_access');
    if (resource) grant.addResourceScope(resource, scope);
    const code = new this.#provider.AuthorizationCode({
      client: await this.#provider.Client.find(client.client_id),
      accountId: user.oid,
      authTime: Math.floor(Date.now() / 1000),
      codeChallenge: challenge,
      codeChallengeMethod: 'S256',
      grantId: await grant.save(),
      nonce,
      redirectUri: redirect,
      resource,
      scope,
    });
    return code.save();
  }

  /** Any token at all, signed with the tenant's key: for tests of what must be refused. */
  async mint(claims, header = {}) {
    const { kid, privateKey } = this.keyring.signing;
    const now = Math.floor(Date.now() / 1000);
    const token = await new SignJWT({ iss: this.issuer, iat: now, nbf: now, exp: now + 3600, tid: this.tid, ver: '2.0', ...claims })
      .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid, ...header })
      .sign(privateKey);
    this.#remember(token);
    return token;
  }

  /** The newest tokens that were given out, for the search for leaks. */
  #remember(...tokens) {
    this.minted.push(...tokens.filter(Boolean));
    this.minted.splice(0, Math.max(0, this.minted.length - 500));
  }

  #rebuild() {
    this.#provider = new Provider(this.issuer, this.#configuration());
    this.#provider.proxy = false;
    this.#provider.use(async (ctx, next) => {
      await next();
      const body = ctx.body;
      if (!body || typeof body !== 'object') return;
      if (body.user_code) {
        delete body.verification_uri_complete;
        body.verification_uri = `${this.origin}/devicelogin`;
        body.interval = this.config.device_interval_s ?? 1;
        body.message = `To sign in, open ${body.verification_uri} and enter the code ${body.user_code} to authenticate.`;
      } else if (body.error) {
        const [error, number, text] = REFUSALS[body.error] ?? [body.error, 900144, body.error_description ?? body.error];
        ctx.body = aadstsBody(error, number, text);
      } else if (body.access_token) {
        this.#remember(body.access_token, body.refresh_token);
        body.ext_expires_in = body.expires_in;
      }
    });
    this.#callback = this.#provider.callback();
  }

  #configuration() {
    return {
      jwks: { keys: this.keyring.privateJwks },
      clients: [...this.#confidentialClients(), ...this.#publicClients()],
      cookies: { keys: [this.#internalSecret] },
      scopes: ['openid', 'offline_access', 'profile'],
      claims: { openid: ['sub', 'oid', 'tid', 'ver'], profile: ['name', 'preferred_username'] },
      conformIdTokenClaims: false,
      pkce: { required: () => true },
      subjectTypes: ['public'],
      routes: {
        token: '/oauth2/v2.0/token',
        authorization: '/oauth2/v2.0/authorize',
        device_authorization: '/oauth2/v2.0/devicecode',
        code_verification: '/oauth2/v2.0/deviceauth',
        jwks: '/discovery/v2.0/keys',
      },
      ttl: {
        AuthorizationCode: 600,
        DeviceCode: this.config.device_lifetime_s ?? 900,
        AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? 3900,
        ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? 3900,
        IdToken: 3600,
        Grant: 86400,
        Session: 86400,
        Interaction: 600,
      },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        deviceFlow: { enabled: true, charset: 'base-20', mask: '*********' },
        userinfo: { enabled: false },
        resourceIndicators: {
          enabled: true,
          useGrantedResource: () => true,
          getResourceServerInfo: (_ctx, resource) => this.#resourceServer(resource),
        },
      },
      findAccount: (_ctx, id) => this.#account(id),
      formats: { customizers: { jwt: (_ctx, token, parts) => this.#shape(token, parts) } },
    };
  }

  #confidentialClients() {
    return (this.config.apps ?? []).map((app) => ({
      client_id: app.client_id,
      client_secret: this.#internalSecret,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: 'client_secret_post',
    }));
  }

  #publicClients() {
    return (this.config.public_clients ?? []).map((client) => ({
      client_id: client.client_id,
      application_type: 'native',
      grant_types: [DEVICE_GRANT, 'authorization_code', 'refresh_token'],
      redirect_uris: ['http://127.0.0.1/', 'http://localhost/'],
      response_types: ['code'],
      subject_type: 'public',
      token_endpoint_auth_method: 'none',
    }));
  }

  #resourceServer(resource) {
    const api = this.api(resource);
    if (!api) throw Object.assign(new Error('invalid_target'), { error: 'invalid_target', statusCode: 400, expose: true });
    return {
      scope: api.scopes.join(' '),
      audience: api.client_id,
      accessTokenFormat: 'jwt',
      accessTokenTTL: api.token_lifetime_s,
      jwt: { sign: { alg: 'RS256', kid: this.keyring.signing.kid } },
    };
  }

  #account(oid) {
    const user = this.user(oid);
    if (!user) return undefined;
    return {
      accountId: user.oid,
      claims: () => ({
        sub: user.oid, oid: user.oid, tid: this.tid, ver: '2.0', name: user.name, preferred_username: user.upn,
      }),
    };
  }

  /** Turns oidc-provider's access token into Entra's v2 shape. */
  #shape(token, parts) {
    const { iat, exp, aud, iss, scope } = parts.payload;
    const client = token.clientId;
    const common = {
      aud, iss, iat, nbf: iat, exp,
      aio: randomBytes(16).toString('base64url'),
      azp: client,
      rh: '1.AAAA',
      tid: this.tid,
      uti: randomBytes(16).toString('base64url'),
      ver: '2.0',
    };
    parts.header = { typ: 'JWT' };
    parts.payload = token.accountId
      ? this.#delegated(common, this.user(token.accountId), client, scope)
      : this.#appOnly(common, this.app(client));
  }

  #appOnly(common, app) {
    const payload = { ...common, azpacr: '2', idtyp: 'app', oid: app.oid, sub: app.oid };
    if (app.roles?.length) payload.roles = app.roles;
    if (app.blueprint) Object.assign(payload, { xms_par_app_azp: app.blueprint, xms_act_fct: '11 3', xms_sub_fct: '9 11' });
    const groups = this.groupsOf(app);
    // Above the limit an app-only token says nothing at all.
    if (app.groups_in_token && groups.length <= GROUPS_MAX) payload.groups = groups;
    return payload;
  }

  #delegated(common, user, client, scope) {
    const payload = {
      ...common,
      azpacr: '0',
      idtyp: 'user',
      name: user.name,
      oid: user.oid,
      preferred_username: user.upn,
      scp: (scope ?? '').split(' ').filter((s) => !['openid', 'profile', 'offline_access'].includes(s)).join(' '),
      sub: createHash('sha256').update(`${user.oid} ${client}`).digest('base64url'),
    };
    if (user.roles?.length) payload.roles = user.roles;
    const groups = this.groupsOf(user);
    if (groups.length > GROUPS_MAX || user.overage) {
      payload._claim_names = { groups: 'src1' };
      payload._claim_sources = {
        src1: { endpoint: `https://graph.windows.net/${this.tid}/users/${user.oid}/getMemberObjects` },
      };
    } else {
      payload.groups = groups;
    }
    return payload;
  }
}

