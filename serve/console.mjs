// @ts-check
// The files of the console, for `narthex serve`: what Cloudflare's static assets are for a deployed gateway. They are
// compressed when a release is made; `console.json` says where each one lies in `console.bin`.
import bytes from "console.bin";
import files from "console.json";

/** @type {Record<string, { type: string, etag: string, from: number, to: number }>} */
const known = files;

export default {
  /** @param {Request} request */
  fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname.endsWith("/index.html")) {
      return new Response(null, { status: 307, headers: { location: pathname.slice(0, -"index.html".length) } });
    }
    const path = pathname.endsWith("/") ? `${pathname}index.html` : pathname;
    const file = Object.hasOwn(known, path) ? known[path] : undefined;
    if (file === undefined) return new Response(null, { status: 404 });
    const headers = new Headers({
      "content-type": file.type,
      etag: file.etag,
      "cache-control": "public, max-age=0, must-revalidate",
      vary: "accept-encoding",
    });
    const wanted = request.headers.get("if-none-match") ?? "";
    if (wanted.includes(file.etag) || wanted.trim() === "*") return new Response(null, { status: 304, headers });
    if (request.method === "HEAD") return new Response(null, { headers });
    const compressed = new Uint8Array(bytes, file.from, file.to - file.from);
    if (/\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i.test(request.headers.get("accept-encoding") ?? "")) {
      headers.set("content-encoding", "gzip");
      return new Response(compressed, { headers, encodeBody: "manual" });
    }
    const { body } = new Response(compressed);
    return new Response(body?.pipeThrough(new DecompressionStream("gzip")) ?? null, { headers });
  },
};
