// The official clients, each performing typical actions of programs through its own API.

/** A client's credentials: a key, or those of an OAuth client. */
export type Credentials = { key: string } | { client_id: string; client_secret: string; issuer: string };

/** The actions of a client, and their results. */
export type Doings = {
  /** Lists the tools and calls one. */
  list: { revision: string; tools: string[]; said: string };
  /** Calls a tool that reports progress. */
  progress: { messages: string[]; result: unknown };
  /** Calls a tool that takes a minute, and cancels the call once it runs. */
  cancel: { cancelled: boolean };
  /** Calls a tool that asks the user, who fills in the form. */
  elicit: { asked: string[]; result: unknown };
  /** Calls a tool whose call becomes a task, and follows it. */
  task: { seen: string[]; result: unknown };
};

/** The endpoint, its name of the slow tool, and the label that identifies the cancelled call. */
export type Where = { url: string; slow: string; label: string };

export type Kind = {
  name: string;
  revision: "2025-11-25" | "2026-07-28";
  /** Why this client cannot be tested, if it cannot. */
  skip?: string | false;
  /** Whether this client supports tasks. */
  tasks: boolean;
  does<What extends keyof Doings>(what: What, where: Where, credentials: Credentials): Promise<Doings[What]>;
};
