// @ts-check
// Asynchronous operations and timers, for `tasks.rs`.
//
// An operation is started with a token; `resume` is called with it and the outcome.

/** @type {(token: number, ok: boolean, value: unknown) => void} */
export let resume;
/** Tokens of an instance that died are invalid in the next one. */
export let generation = 0;

/** @param {(token: number, ok: boolean, value: unknown) => void} callback */
export function install(callback) {
  resume = callback;
  generation += 1;
  // The new instance numbers its families from the beginning.
  asked.clear();
}

/** @param {number} token @param {PromiseLike<unknown>} promise */
export function watch(token, promise) {
  const startedIn = generation;
  promise.then(
    (value) => {
      if (startedIn === generation) resume(token, true, value);
    },
    (error) => {
      if (startedIn === generation) resume(token, false, error);
    },
  );
}

/**
 * Promises of Rust that are pending.
 * @type {Map<number, { resolve: (value: any) => void, reject: (error: any) => void }>}
 */
let promises = new Map();

/** @param {number} token */
export function promised(token) {
  return new Promise((resolve, reject) => promises.set(token, { resolve, reject }));
}

/** @param {number} token @param {boolean} ok @param {unknown} value */
export function settle(token, ok, value) {
  const promise = promises.get(token);
  promises.delete(token);
  if (ok) promise?.resolve(value);
  else promise?.reject(value);
}

/** What ends when the instance dies. @type {Set<() => void>} */
let mortal = new Set();

/**
 * Calls `end` when the instance dies, in the request that asks for it now: another one may not end what belongs to it.
 * Returns a function that forgets it.
 * @param {() => void} end
 */
export function onDeath(end) {
  /** @type {() => void} */
  let die = () => {};
  new Promise((resolve) => {
    die = () => resolve(undefined);
  }).then(end);
  const own = mortal;
  own.add(die);
  return () => own.delete(die);
}

// For the entry guard: rejects the promises of an instance that died, ends what it can end no more, and delivers no
// more outcomes to it.
globalThis.__narthex_abandon = (error) => {
  generation += 1;
  const left = mortal;
  mortal = new Set();
  for (const die of left) die();
  const broken = promises;
  promises = new Map();
  for (const { reject } of broken.values()) reject(error);
};

/**
 * One timer for a family of tasks; `resume` is called with its token.
 * @param {number} token @param {number} milliseconds
 */
export function tick(token, milliseconds) {
  const startedIn = generation;
  return setTimeout(() => {
    if (startedIn === generation) resume(token, true, undefined);
  }, milliseconds);
}

/** @param {number} timer */
export function stopTick(timer) {
  clearTimeout(timer);
}

/**
 * The last stub that a family of tasks used. Most call one object twice, and creating a stub costs a third of a call; a
 * stub belongs to the request that created it, as a family does.
 * @type {Map<number, { kind: number, name: string, stub: any }>}
 */
export const asked = new Map();

/** A family has ended. @param {number} family */
export function leave(family) {
  asked.delete(family);
}

/** Lets work continue after its event. @param {ExecutionContext} context @param {Promise<unknown>} promise */
export function waitUntil(context, promise) {
  context.waitUntil(promise);
}
