// What the console's modules have in common.

/** Where a screen is shown, what its address says besides its name, until when it is looked at, and whether it is come back to. */
type Place = { view: any; id: string; query: URLSearchParams; signal: AbortSignal; isReturn: boolean };

/** An event of the stream, a CloudEvent. */
type StreamEvent = { type: string; subject: string; time: string; sequence: string; data: any };

/** Hears of each event, and when all has to be looked at again. */
type Listener = { event(event: StreamEvent): unknown; again(): unknown };

/** Part of a form. `missing` gives what is needed and not there; `tell` says what is wrong at a path, if that is in it. */
type Field = { element: any; read(): any; missing(): string[]; tell(path: string[], text: string): boolean };
