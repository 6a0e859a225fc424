// @ts-check
// The floor under a cold start: a Worker that has nothing to load.
export default {
  fetch() {
    return new Response("{}");
  },
};
