using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "control", worker = .control),
    # It calls nothing else, and needs no authorities.
    (name = "internet", network = (allow = [])),
    # The program starts workerd in the folder of the socket.
    (name = "gateway", external = (address = "unix:control.sock", http = ())),
  ],
);

const control :Workerd.Worker = (
  modules = [(name = "control.mjs", esModule = embed "/control.mjs")],
  compatibilityDate = "2026-07-01",
  bindings = [
    (name = "GATEWAY", service = "gateway"),
    (name = "REQUEST", fromEnvironment = "NARTHEX_REQUEST"),
    (name = "WAIT", fromEnvironment = "NARTHEX_WAIT"),
  ],
);
