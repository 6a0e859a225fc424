// An identity provider: key pairs, and tokens signed with them.
import * as jose from "jose";

export type Pair = { kid: string; alg: string; privateKey: jose.CryptoKey; jwk: jose.JWK };
export type Claims = Record<string, unknown>;

export async function pair(alg: string, kid: string): Promise<Pair> {
  const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  return { kid, alg, privateKey, jwk: { ...(await jose.exportJWK(publicKey)), kid } };
}

export const seconds = () => Math.floor(Date.now() / 1000);

/** A token with these claims, valid for five minutes by default; null removes a default claim. */
export function sign(claims: Claims, by: Pair, header: Claims = {}): Promise<string> {
  const all = { exp: seconds() + 300, iat: seconds(), ...claims };
  const protectedHeader = { alg: by.alg, typ: "at+jwt", kid: by.kid, ...header };
  return new jose.CompactSign(new TextEncoder().encode(JSON.stringify(all)))
    .setProtectedHeader(protectedHeader as jose.CompactJWSHeaderParameters)
    .sign(by.privateKey);
}
