// The few things the JavaScript of the project takes from the platform; the platform's own type package
// redefines the globals of Node and browsers, which tests and console need.
declare module "cloudflare:workers" {
  export class WorkerEntrypoint {
    constructor(ctx: any, env: any);
    protected ctx: any;
    protected env: any;
  }
  export class DurableObject {
    constructor(ctx: any, env: any);
    protected ctx: any;
    protected env: any;
  }
}

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
