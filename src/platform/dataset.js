// @ts-check
// The dataset of usage, for `dataset.rs`.
import { env } from "cloudflare:workers";

export function hasDataset() {
  return env.USAGE !== undefined;
}

/** @param {string} points */
export function writePoints(points) {
  for (const point of JSON.parse(points)) env.USAGE?.writeDataPoint(point);
}
