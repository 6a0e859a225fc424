// @ts-check
// Signatures by the platform's Web Cryptography. Its Rust face is `crypto.rs`. Nothing in here decides anything.

/** By the names of RFC 7518 and RFC 8037: how a key is imported, and how it verifies. */
const ALGORITHMS = /** @type {const} */ ({
  ES256: [{ name: "ECDSA", namedCurve: "P-256" }, { name: "ECDSA", hash: "SHA-256" }],
  EdDSA: [{ name: "Ed25519" }, { name: "Ed25519" }],
  RS256: [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, { name: "RSASSA-PKCS1-v1_5" }],
  PS256: [{ name: "RSA-PSS", hash: "SHA-256" }, { name: "RSA-PSS", saltLength: 32 }],
});
/** @typedef {keyof typeof ALGORITHMS} Algorithm */

/** Imported keys, by algorithm and text. @type {Map<string, CryptoKey>} */
const imported = new Map();
const MOST_KEYS = 256;

/** @param {Algorithm} algorithm @param {string} jwk @param {"verify" | "sign"} use */
async function imports(algorithm, jwk, use) {
  const name = `${algorithm} ${use} ${jwk}`;
  let key = imported.get(name);
  if (key === undefined) {
    key = await crypto.subtle.importKey("jwk", JSON.parse(jwk), ALGORITHMS[algorithm][0], false, [use]);
    if (imported.size >= MOST_KEYS) imported.clear();
    imported.set(name, key);
  }
  return key;
}

/**
 * Whether `signature` is of `text`, by a public key.
 * @param {Algorithm} algorithm @param {string} jwk @param {Uint8Array<ArrayBuffer>} signature @param {string} text
 * @returns {Promise<boolean>}
 */
export async function verifies(algorithm, jwk, signature, text) {
  const key = await imports(algorithm, jwk, "verify");
  return crypto.subtle.verify(ALGORITHMS[algorithm][1], key, signature, new TextEncoder().encode(text));
}

/** Makes a pair of keys for ES256: [public, private], each as a JWK with its members in the order of RFC 7638. */
export async function makesPair() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey(ALGORITHMS.ES256[0], true, ["sign", "verify"]));
  const { x, y, d } = /** @type {JsonWebKey} */ (await crypto.subtle.exportKey("jwk", pair.privateKey));
  const open = { crv: "P-256", kty: "EC", x, y };
  return [JSON.stringify(open), JSON.stringify({ ...open, d })];
}

/** A signature by a private key for ES256. @param {string} jwk @param {string} text */
export async function signs(jwk, text) {
  const key = await imports("ES256", jwk, "sign");
  return new Uint8Array(await crypto.subtle.sign(ALGORITHMS.ES256[1], key, new TextEncoder().encode(text)));
}
