// What the console's modules have in common.

/** Where a screen is shown, what its address says besides its name, and until when it is looked at. */
type Place = { view: any; id: string; query: URLSearchParams; signal: AbortSignal };

/** An event of the stream, a CloudEvent. */
type StreamEvent = { type: string; subject: string; time: string; sequence: string; data: any };

/** Hears of each event, and when all has to be looked at again. */
type Listener = { event(event: StreamEvent): unknown; again(): unknown };

/** Part of a form. `tell` says what is wrong with what is at a path. */
type Field = { element: HTMLElement; read(): any; tell(path: string[], text: string): void };
