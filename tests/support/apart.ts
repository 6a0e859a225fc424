/** One connection per request: workerd closes a connection whose request it has refused unread. */
export const apart: typeof fetch = (url, init) => {
  const headers = new Headers(init?.headers);
  headers.set("connection", "close");
  return fetch(url, { ...init, headers });
};
