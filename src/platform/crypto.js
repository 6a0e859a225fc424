// @ts-check
// Signatures and encryption by the platform's Web Cryptography. Its Rust faces are `crypto.rs` and `secret_box.rs`.
// Nothing in here decides anything.

/** By the names of RFC 7518 and RFC 8037: how a key is imported, and how it verifies. */
const ALGORITHMS = /** @type {const} */ ({
  ES256: [
    { name: "ECDSA", namedCurve: "P-256" },
    { name: "ECDSA", hash: "SHA-256" },
  ],
  EdDSA: [{ name: "Ed25519" }, { name: "Ed25519" }],
  RS256: [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }, { name: "RSASSA-PKCS1-v1_5" }],
  PS256: [
    { name: "RSA-PSS", hash: "SHA-256" },
    { name: "RSA-PSS", saltLength: 32 },
  ],
  ES384: [
    { name: "ECDSA", namedCurve: "P-384" },
    { name: "ECDSA", hash: "SHA-384" },
  ],
  RS384: [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" }, { name: "RSASSA-PKCS1-v1_5" }],
  RS512: [{ name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" }, { name: "RSASSA-PKCS1-v1_5" }],
  PS384: [
    { name: "RSA-PSS", hash: "SHA-384" },
    { name: "RSA-PSS", saltLength: 48 },
  ],
  PS512: [
    { name: "RSA-PSS", hash: "SHA-512" },
    { name: "RSA-PSS", saltLength: 64 },
  ],
});
/** @typedef {keyof typeof ALGORITHMS} Algorithm */

/** Imported keys, by algorithm and text. @type {Map<string, CryptoKey>} */
const imported = new Map();
const MAX_KEYS = 256;

/** @param {Algorithm} algorithm @param {string} jwk @param {"verify" | "sign"} use */
async function imports(algorithm, jwk, use) {
  const name = `${algorithm} ${use} ${jwk}`;
  let key = imported.get(name);
  if (key === undefined) {
    key = await crypto.subtle.importKey("jwk", JSON.parse(jwk), ALGORITHMS[algorithm][0], false, [use]);
    if (imported.size >= MAX_KEYS) imported.clear();
    imported.set(name, key);
  }
  return key;
}

/**
 * Whether `signature` is a valid signature of `text`, by a public key.
 * @param {Algorithm} algorithm @param {string} jwk @param {Uint8Array<ArrayBuffer>} signature @param {string} text
 * @returns {Promise<boolean>}
 */
export async function verifies(algorithm, jwk, signature, text) {
  const key = await imports(algorithm, jwk, "verify");
  return crypto.subtle.verify(ALGORITHMS[algorithm][1], key, signature, new TextEncoder().encode(text));
}

/** Creates a key pair for ES256: [public, private], each as a JWK with its members in the order of RFC 7638. */
export async function makesPair() {
  const pair = /** @type {CryptoKeyPair} */ (
    await crypto.subtle.generateKey(ALGORITHMS.ES256[0], true, ["sign", "verify"])
  );
  const { x, y, d } = /** @type {JsonWebKey} */ (await crypto.subtle.exportKey("jwk", pair.privateKey));
  const open = { crv: "P-256", kty: "EC", x, y };
  return [JSON.stringify(open), JSON.stringify({ ...open, d })];
}

/** A signature by a private key for ES256. @param {string} jwk @param {string} text */
export async function signs(jwk, text) {
  const key = await imports("ES256", jwk, "sign");
  return new Uint8Array(await crypto.subtle.sign(ALGORITHMS.ES256[1], key, new TextEncoder().encode(text)));
}

/** @param {Uint8Array<ArrayBuffer>} bytes @param {"encrypt" | "decrypt"} use */
const aes = (bytes, use) => crypto.subtle.importKey("raw", bytes, "AES-GCM", false, [use]);
/** @param {Uint8Array<ArrayBuffer>} iv @param {string} bound */
const gcm = (iv, bound) => ({ name: "AES-GCM", iv, additionalData: new TextEncoder().encode(bound) });
// Where the parts of an encrypted text end: nonce, wrapped data key, nonce; the rest is the text.
const WRAPPED_AT = 12;
const NONCE_AT = WRAPPED_AT + 32 + 16;
const TEXT_AT = NONCE_AT + 12;

/**
 * Encrypts a text under a data key, and that under a key of the Worker's.
 * @param {Uint8Array<ArrayBuffer>} kek @param {Uint8Array<ArrayBuffer>} random a data key and two nonces
 * @param {string} bound @param {string} text
 */
export async function encrypts(kek, random, bound, text) {
  const [key, outer, inner] = [random.slice(0, 32), random.slice(32, 44), random.slice(44, 56)];
  const [wrapping, encrypting] = await Promise.all([aes(kek, "encrypt"), aes(key, "encrypt")]);
  const [wrapped, encrypted] = await Promise.all([
    crypto.subtle.encrypt(gcm(outer, bound), wrapping, key),
    crypto.subtle.encrypt(gcm(inner, bound), encrypting, new TextEncoder().encode(text)),
  ]);
  const whole = new Uint8Array(TEXT_AT + encrypted.byteLength);
  whole.set(outer);
  whole.set(new Uint8Array(wrapped), WRAPPED_AT);
  whole.set(inner, NONCE_AT);
  whole.set(new Uint8Array(encrypted), TEXT_AT);
  return whole;
}

/**
 * The text that was encrypted.
 * @param {Uint8Array<ArrayBuffer>} kek @param {Uint8Array<ArrayBuffer>} encrypted @param {string} bound
 */
export async function decrypts(kek, encrypted, bound) {
  const part = (/** @type {number} */ from, /** @type {number | undefined} */ to) => encrypted.slice(from, to);
  const key = await crypto.subtle.decrypt(
    gcm(part(0, WRAPPED_AT), bound),
    await aes(kek, "decrypt"),
    part(WRAPPED_AT, NONCE_AT),
  );
  const decrypting = await aes(new Uint8Array(key), "decrypt");
  return new TextDecoder().decode(
    await crypto.subtle.decrypt(gcm(part(NONCE_AT, TEXT_AT), bound), decrypting, part(TEXT_AT, undefined)),
  );
}
