// @ts-check
// The storage of an object, for `sql.rs`.
import { costs } from "./objects.js";

/** @import { Kind } from "./objects.js" */

/**
 * Runs one statement. Integers come back as numbers, so a column beyond 2^53 must be TEXT.
 * @param {DurableObjectStorage} storage @param {Kind} kind @param {string} statement @param {any[]} parameters
 */
export function sql(storage, kind, statement, parameters) {
  const cursor = storage.sql.exec(statement, ...parameters);
  const rows = /** @type {ArrayIterator<SqlStorageValue[]>} */ (cursor.raw()).toArray();
  costs[kind].rowsWritten += cursor.rowsWritten;
  costs[kind].rowsRead += cursor.rowsRead;
  return rows;
}

/**
 * As `sql`, for statements that return no rows.
 * @param {DurableObjectStorage} storage @param {Kind} kind @param {string} statement @param {any[]} parameters
 */
export function run(storage, kind, statement, parameters) {
  const cursor = storage.sql.exec(statement, ...parameters);
  costs[kind].rowsWritten += cursor.rowsWritten;
}

/**
 * A transaction: `work` returns whether to commit.
 * @param {DurableObjectStorage} storage @param {() => boolean} work
 */
export function transaction(storage, work) {
  storage.transactionSync(() => {
    if (!work()) throw new Error("rolled back");
  });
}

/** @param {DurableObjectStorage} storage @param {Kind} kind @param {number} time */
export function setAlarm(storage, kind, time) {
  costs[kind].alarmsSet += 1;
  // The output gate holds back every response until this is on disk; a failure resets the object.
  storage.setAlarm(time).catch(() => {});
}

/** @param {DurableObjectStorage} storage */
export function deleteAlarm(storage) {
  storage.deleteAlarm().catch(() => {});
}
