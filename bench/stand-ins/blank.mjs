// @ts-check
// The minimum of a cold start: a Worker with nothing to load.
export default {
  fetch() {
    return new Response("{}");
  },
};
