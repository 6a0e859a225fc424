// How long tests wait, and how late an event may be.
import { availableParallelism, loadavg } from "node:os";

/**
 * How long a test waits for an event before it fails, in milliseconds. It costs time only in a failure, so it suits a
 * machine that is busy with much else. A test that asserts how soon an event comes compares times itself.
 */
export const PATIENCE_MS = 90_000;

/**
 * How much longer than its promise a gateway may take on this machine: 1, unless far more runs than it has cores for.
 */
export const slowness = () => Math.max(1, loadavg()[0]! / (2 * availableParallelism()));

/**
 * How late an event may be that the gateway promises within two seconds, in milliseconds: 10 s while other files run
 * beside, up to 30 s if far more than those runs. storms.test.ts checks the promise itself while nothing else runs.
 */
export const tolerance = () => Math.min(30_000, 10_000 * slowness());
