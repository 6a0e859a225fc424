// @ts-check
// The bodies of requests.

/** The body of a context request: about 200 bytes of parameters. @param {"echo" | "lookup"} capability */
export const contextBody = (capability) =>
  JSON.stringify({
    capability,
    parameters: {
      prompt:
        "Say in two sentences why a gateway that answers quickly is worth more than one that does more, and for whom " +
        "it is not; then stop and say nothing else, please.",
      max_tokens: 128,
    },
  });
