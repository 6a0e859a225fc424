// Types that the console's modules share: elements, screens, forms, and the documents of the API as far as screens read
// them.

/** A child of an element; `false`, `null` and `undefined` are left out. */
type Child = Node | string | number | boolean | null | undefined | Child[];

/** Attributes by name. Those that begin with `on` are handlers; `undefined`, `null` and `false` are left out. */
type Attributes = { [name: string]: unknown };

type TagOf<Selector extends string> = Selector extends `${infer Tag}.${string}` ? Tag : Selector;
/** The element that `h` makes for `tag.class.class`. */
type ElementOf<Selector extends string> =
  TagOf<Selector> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagOf<Selector>] : HTMLElement;

/** What a screen is opened with. */
type Visit = {
  /** The element that the screen fills. */
  view: HTMLElement;
  /** The second part of the address, still encoded, as in `#/contexts/{id}`. */
  id: string | undefined;
  query: URLSearchParams;
  /** Aborted when the user leaves the screen. */
  signal: AbortSignal;
  /** Whether the user returns to the screen. */
  isReturn: boolean;
};

/** Part of a form. */
type Field = {
  element: HTMLElement;
  /** The value, or `undefined` if it was left out. */
  read(): any;
  /** Titles of required fields that are empty. */
  missing(): string[];
  /** Shows an error at the field that this path leads to; false if the form has no such field. */
  showError(path: string[], text: string): boolean;
};

/** A JSON Schema, which may say anything. */
type JsonSchema = any;

/** Something that a list shows; `isGone` is set on a row that keeps its place after the item has gone. */
type Item = { id: string; isGone?: boolean; [member: string]: any };

type Page<T = any> = { data: T[]; next_cursor: string | null };

/** An event of the stream, a CloudEvent. */
type StreamEvent = { type: string; subject: string; time: string; sequence: string; data: any };

type ContextError = { code: string; message: string; details?: unknown };

type Attempt = {
  number: number;
  service: string;
  outcome: string;
  code: string | null;
  started_at: string;
  ended_at: string;
  status_code: number | null;
};

/** A context, as it is listed and as events change it. */
type Context = Item & {
  capability: string;
  service: string;
  status: string;
  created_at: string;
  updated_at: string;
  run_at?: string | null;
  execution_time_ms: number | null;
  progress?: { data: unknown } | null;
  error?: ContextError | null;
  /** The name that was asked for, if it is a call of a model. */
  model?: string;
  usage?: ModelUsage;
  /** What it owes; null for a call of a model whose price is not known. */
  cost?: ModelCost | null;
  other_costs?: ModelCost[];
  finish_reason?: string | null;
  /** `none` if its parameters and its result are not kept. */
  content?: string;
};

type ModelUsage = {
  input_tokens: number;
  cached_input_tokens: number;
  cache_write_tokens: number;
  output_tokens: number;
  reasoning_tokens: number;
  estimated: boolean;
};

type ModelCost = { amount: string; currency: string; estimated: boolean };

type Capability = {
  name: string;
  version: string;
  description?: string;
  input_schema: JsonSchema;
  idempotent: boolean;
  durable: boolean;
  timeout_seconds: number;
  price?: { per_call: string; currency: string };
  content?: string;
};

type Service = Item & {
  name: string;
  description?: string;
  status: string;
  status_at: string | null;
  created_at: string;
  transport: { kind: string; url?: string; model?: string; content?: string };
  /** What is kept of calls: `full` or `none`, if it is set. */
  content?: string;
  capabilities: Capability[];
  models?: Offer[];
  tier: number;
  weight: number;
  breaker: { state: string; until: string | null };
  latency_ms: number | null;
  catalogue?: Catalogue;
};

/** A model that a service offers. */
type Offer = {
  id: string;
  upstream?: string;
  context_window?: number;
  max_output_tokens?: number;
  prices?: ModelPrices;
};

/** Rates are for a million tokens each. */
type ModelPrices = {
  currency: string;
  input: string;
  cached_input?: string;
  cache_write?: string;
  cache_write_1h?: string;
  output?: string;
  tiers?: object[];
  service_tiers?: object;
  per_use?: object;
  as_of?: string;
  source?: string;
};

/** What a model costs at a service. */
type TargetPrices = { service: string; model: string; origin: "service" | "list"; prices: ModelPrices };

/** What was read of an MCP server. */
type Catalogue = {
  error?: string;
  server?: { name: string; title?: string; version?: string };
  instructions?: string;
  protocol_version?: string;
  held?: { capability: Capability }[];
  left_out?: { name: string; reason: string }[];
};

type Latency = { p50?: number | null; p95?: number | null };

/** What the gateway has counted of one group of contexts. */
type UsageGroup = {
  from?: string;
  service?: string;
  /** `*` stands for all that are not configured; null if it used none. */
  model?: string | null;
  tokens?: { input: number; output: number } | null;
  /** What contexts owe, by currency. */
  spend?: { amount: string; currency: string; estimated: string }[] | null;
  created: number;
  completed: number;
  failed: number;
  cancelled: number;
  timed_out: number;
  errors: { [code: string]: number };
  latency_ms: Latency;
};

/** What was counted of all contexts together, of each service, and of each model if that is known. */
type Figures = { total: UsageGroup; services: UsageGroup[]; models?: UsageGroup[] };
