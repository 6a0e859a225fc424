// @ts-check
// Cloudflare's list prices (Workers paid plan, beyond what is included), in dollars.
import { sum } from "./costs.mjs";

const PER_MILLION = {
  workerRequests: 0.3,
  workerCpuMs: 0.02,
  objectRequests: 0.15,
  rowsWritten: 1,
  rowsRead: 0.001,
  queueOperations: 0.4,
};
const OBJECT_GB_SECOND = 12.5 / 1e6;
/** The memory billed for an active object, whatever it uses. */
const OBJECT_GB = 0.128;
const ACTIVE_MS_PER_OBJECT_REQUEST = 1;
/** A message is written, read and deleted. */
const OPERATIONS_PER_MESSAGE = 3;

export const ASSUMPTIONS = [
  "one Workers request a context; Worker CPU is all CPU of workerd a context, its objects and HTTP included, on this machine",
  `an object is active ${ACTIVE_MS_PER_OBJECT_REQUEST} ms a request at 128 MB, and alarms ride along; in production a store is kept` +
    " active by other requests too, and is then billed once for all of them",
  "list prices beyond what the plan includes; no storage ($0.20 a GB and month), no rows read where they are not counted",
];

/** Dollars for a million contexts, by item. @param {import("./costs.mjs").PerContext} one */
export function perMillion(one) {
  const requests = sum(one.objectRequests);
  const parts = {
    workerRequests: PER_MILLION.workerRequests,
    workerCpu: (one.cpuMs ?? 0) * PER_MILLION.workerCpuMs,
    objectRequests: requests * PER_MILLION.objectRequests,
    objectTime: requests * ACTIVE_MS_PER_OBJECT_REQUEST * 1000 * OBJECT_GB * OBJECT_GB_SECOND,
    // Setting an alarm is billed as a row written; the objects count it separately.
    rowsWritten: (sum(one.rowsWritten) + (one.alarmsSet ?? 0)) * PER_MILLION.rowsWritten,
    rowsRead: (one.rowsRead ?? 0) * PER_MILLION.rowsRead,
    queue: one.queueMessages * OPERATIONS_PER_MESSAGE * PER_MILLION.queueOperations,
  };
  return { ...parts, total: sum(parts) };
}
