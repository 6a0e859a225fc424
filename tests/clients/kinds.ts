// The official clients, each in its own words, doing what programs do with them.

/** What a client shows: a key, or what it signs in with. */
export type Credentials = { key: string } | { client_id: string; client_secret: string; issuer: string };

/** What a client is to do, and what it gives when it did. */
export type Doings = {
  /** Lists the tools and calls one. */
  list: { revision: string; tools: string[]; said: string };
  /** Calls what reports how far it is. */
  progress: { told: string[]; result: unknown };
  /** Calls what takes a minute, and does not want it any more once it runs. */
  cancel: { cancelled: boolean };
  /** Calls what asks the user, who fills in the form. */
  elicit: { asked: string[]; result: unknown };
  /** Calls what becomes a task, and follows it. */
  task: { seen: string[]; result: unknown };
};

/** Where it is done, what the tool is called there that takes its time, and what its cancelled call is known by. */
export type Where = { url: string; slow: string; label: string };

export type Kind = {
  name: string;
  revision: "2025-11-25" | "2026-07-28";
  /** Why it cannot be asked, if it cannot. */
  skip?: string | false;
  /** False: this client has no tasks. */
  tasks: boolean;
  does<What extends keyof Doings>(what: What, where: Where, credentials: Credentials): Promise<Doings[What]>;
};
