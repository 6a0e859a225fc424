// @ts-check
// Stands in for the assets service: the load never asks for the console's files.
export default {
  fetch() {
    return new Response("no assets in the benchmark", { status: 404 });
  },
};
