// A strict parser of OpenMetrics 1.0 text: it throws on anything that the specification forbids, so that scrapers which
// are less forgiving than the usual ones can read it too.

export type Sample = { name: string; labels: Map<string, string>; value: number };
export type Family = { name: string; type: string; unit: string; help: string; samples: Sample[] };

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
/** Permitted numbers; `le` must have the shortest form that is still a float. */
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$/;
/** The samples of each type of family, by the suffix of their names. */
const SUFFIXES: Record<string, string[]> = {
  counter: ["_total", "_created"],
  histogram: ["_bucket", "_count", "_sum", "_created"],
  gauge: [""],
};

class Malformed extends Error {
  constructor(line: number, what: string) {
    super(`line ${line}: ${what}`);
  }
}

/** Parses `a="b",c="d"}`; returns the labels and the rest. */
function labelsOf(text: string, line: number): [Map<string, string>, string] {
  const labels = new Map<string, string>();
  let rest = text;
  while (!rest.startsWith("}")) {
    const found = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,(?!})|(?=}))/.exec(rest);
    if (!found) throw new Malformed(line, `no label begins here: ${rest}`);
    const [all, name, value] = found as unknown as [string, string, string];
    if (labels.has(name)) throw new Malformed(line, `the label ${name} is there twice`);
    labels.set(
      name,
      value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter)),
    );
    rest = rest.slice(all.length);
  }
  return [labels, rest.slice(1)];
}

function sampleOf(text: string, line: number): Sample {
  const name = /^[a-zA-Z_:][a-zA-Z0-9_:]*/.exec(text)?.[0];
  if (name === undefined) throw new Malformed(line, `no sample: ${text}`);
  const after = text.slice(name.length);
  const [labels, rest] = after.startsWith("{") ? labelsOf(after.slice(1), line) : [new Map<string, string>(), after];
  const value = /^ (\S+)$/.exec(rest)?.[1];
  if (value === undefined || !(NUMBER.test(value) || value === "+Inf")) throw new Malformed(line, `no value: ${rest}`);
  return { name, labels, value: Number(value.replace("+Inf", "Infinity")) };
}

/** A sample's labels without `le`: those of its metric. */
const metricOf = ({ labels }: Sample) => JSON.stringify([...labels].filter(([name]) => name !== "le").sort());

/** Checks the samples of a histogram or counter with the same labels. */
function checkMetric({ name, type }: Family, samples: Sample[]): void {
  const of = (suffix: string) => samples.filter((sample) => sample.name === name + suffix);
  const fail = (what: string): never => {
    throw new Error(`${name} with ${samples[0] && metricOf(samples[0])}: ${what}`);
  };
  if (samples.some(({ value }) => Number.isNaN(value) || (type !== "gauge" && value < 0))) fail("a value is negative");
  if (type !== "histogram") {
    if (samples.length !== 1) fail(`has ${samples.length} samples`);
    return;
  }
  const bounds = of("_bucket").map(({ labels }) => labels.get("le") ?? fail("a bucket has no le"));
  for (const bound of bounds) if (bound !== "+Inf" && !NUMBER.test(bound)) fail(`le="${bound}"`);
  const numbers = bounds.map((bound) => Number(bound.replace("+Inf", "Infinity")));
  if (numbers.at(-1) !== Infinity || numbers.some((bound, at) => at > 0 && bound <= numbers[at - 1]!))
    fail(`buckets: ${bounds}`);
  const counts = of("_bucket").map(({ value }) => value);
  if (counts.some((count, at) => !Number.isInteger(count) || (at > 0 && count < counts[at - 1]!)))
    fail(`counts: ${counts}`);
  if (of("_count").length !== 1 || of("_sum").length !== 1) fail("has no count or no sum");
  if (of("_count")[0]!.value !== counts.at(-1)) fail("counts something else than its last bucket");
}

function checkFamily(family: Family): void {
  if (!(family.type in SUFFIXES)) throw new Error(`${family.name} has the type ${family.type}`);
  if (family.unit !== "" && !family.name.endsWith(`_${family.unit}`))
    throw new Error(`${family.name} is not in ${family.unit}`);
  const metrics = new Map<string, Sample[]>();
  let last = "";
  for (const sample of family.samples) {
    const metric = metricOf(sample);
    if (metric !== last && metrics.has(metric)) throw new Error(`samples of ${family.name} with ${metric} lie apart`);
    const known = metrics.get(metric) ?? [];
    const same = known.some((one) => one.name === sample.name && one.labels.get("le") === sample.labels.get("le"));
    if (same) throw new Error(`${sample.name} with ${metric} is there twice`);
    metrics.set(metric, [...known, sample]);
    last = metric;
  }
  for (const samples of metrics.values()) checkMetric(family, samples);
}

/** Parses all families; throws on any violation of OpenMetrics. */
export function readOpenMetrics(text: string): Map<string, Family> {
  if (!text.endsWith("\n# EOF\n")) throw new Error("it does not end with # EOF and a line feed");
  if (text.includes("\r")) throw new Error("it has a carriage return");
  const families = new Map<string, Family>();
  let open: Family | undefined;
  for (const [at, line] of text.split("\n").slice(0, -2).entries()) {
    const head = /^# (TYPE|UNIT|HELP) (\S+) (.*)$/.exec(line) as unknown as
      [string, "TYPE" | "UNIT" | "HELP", string, string] | null;
    if (head) {
      const [, kind, name, value] = head;
      if (!NAME.test(name)) throw new Malformed(at + 1, `${name} is not a valid name`);
      if (open?.name !== name) {
        if (families.has(name)) throw new Malformed(at + 1, `${name} begins again`);
        open = { name, type: "", unit: "", help: "", samples: [] };
        families.set(name, open);
      }
      const member = kind.toLowerCase() as "type" | "unit" | "help";
      if (open.samples.length > 0 || open[member] !== "" || value === "")
        throw new Malformed(at + 1, `${kind} has no place here`);
      if (kind === "HELP" && /\\[^\\n"]/.test(value)) throw new Malformed(at + 1, "HELP escapes what needs no escape");
      open[member] = value;
      continue;
    }
    if (line.startsWith("#") || line === "") throw new Malformed(at + 1, `neither sample nor metadata: ${line}`);
    const sample = sampleOf(line, at + 1);
    const belongs = open && SUFFIXES[open.type]?.some((suffix) => sample.name === open!.name + suffix);
    if (!open || !belongs) throw new Malformed(at + 1, `${sample.name} is not of ${open?.name}`);
    open.samples.push(sample);
  }
  const names = [...families.keys()];
  for (const family of families.values()) {
    checkFamily(family);
    // Names with a suffix must not collide with another family's.
    const own = (SUFFIXES[family.type] ?? []).filter((suffix) => suffix !== "").map((suffix) => family.name + suffix);
    if (names.some((name) => own.includes(name))) throw new Error(`${family.name} meets another family`);
  }
  return families;
}
