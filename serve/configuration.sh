# The configuration of workerd: what depends on this machine. The rest is in gateway.capnp.

# Checks the private origins, and collects in `allowed` the addresses that they need.
check_origins() {
  allowed=
  [ -n "$ALLOWED_ORIGINS" ] || return 0
  rest=$ALLOWED_ORIGINS,
  while [ -n "$rest" ]; do
    origin=$(printf '%s' "${rest%%,*}" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
    rest=${rest#*,}
    [ -n "$origin" ] || continue
    host=${origin#*://}
    case $origin in
      http://?* | https://?*) ;;
      *) host= ;;
    esac
    case $host in
      '' | *[/?#@\\*\"]* | *[[:space:]]*) host= ;;
      \[*\] | \[*\]:*[0-9]) ;;
      *:*[!0-9]* | *: | *:??????* | *:*:*) host= ;;
    esac
    if [ -n "$host" ]; then
      allow_host "$host"
    else
      fault "--allow-origin takes origins such as http://ollama:11434 or https://tools.internal, not \"$origin\""
    fi
  done
}

# An address opens itself; what a name leads to is known only when it is called.
allow_host() {
  case $1 in
    \[*\]*) network=${1#\[} network=${network%%\]*}/128 ;;
    *[!0-9.:]* | *.*.*.*.*) network=private ;;
    *?.?*.?*.?*) network=${1%%:*}/32 ;;
    *) network=private ;;
  esac
  case " $allowed " in *" $network "*) ;; *) allowed="$allowed $network" ;; esac
}

# The list of networks of an `allow`.
networks() {
  separator=
  for network in "$@"; do
    printf '%s%s' "$separator" "$(quoted "$network")"
    separator=', '
  done
}

# Whether this machine has the certificates of public authorities, where workerd looks for them. With none of them it
# does not start unless it need not trust any.
has_public_authorities() {
  if [ -n "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}" ]; then
    has_content "${SSL_CERT_FILE:-}" || has_content "${SSL_CERT_DIR:-}"
    return
  fi
  for path in /etc/ssl/certs/ca-certificates.crt /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem \
    /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/pki/tls/cacert.pem /etc/ssl/cert.pem \
    /opt/etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/cacert.pem /etc/ssl/certs /etc/pki/tls/certs; do
    ! has_content "$path" || return 0
  done
  return 1
}

# Whether a file or a folder has anything in it.
has_content() {
  if [ -d "$1" ]; then [ -n "$(ls "$1")" ]; else [ -s "$1" ]; fi
}

no_public_authorities="this machine has no certificates of public authorities, so public services with https cannot \
be called: install ca-certificates"

# The certificates that outgoing connections trust, as members of `tlsOptions`.
trusted() {
  if has_public_authorities; then printf 'trustBrowserCas = true'; else printf 'trustBrowserCas = false'; fi
  [ -z "$ca" ] || printf ', trustedCertificates = [embed %s]' "$(quoted "$ca")"
}

# How the gateway is reached.
public_socket() {
  printf '(name = "http", address = %s, service = "narthex", ' "$(quoted "$listen")"
  if [ -z "$tls_cert" ]; then
    printf 'http = ())'
    return
  fi
  printf 'https = (options = (), tlsOptions = (keypair = (privateKey = embed %s, certificateChain = embed %s))))' \
    "$(quoted "$tls_key")" "$(quoted "$tls_cert")"
}

write_configuration() {
  # Names lead to public addresses too: http, or another port.
  case " $allowed " in *' private '*) allowed="$allowed public" ;; esac
  # For development and tests, services may be anywhere on this machine.
  open=public
  if [ "${ALLOW_LOOPBACK:-}" = true ]; then open='public local'; fi
  # shellcheck disable=SC2086
  cat >"$data/run/serve.capnp" <<END
# Written at each start.
using Workerd = import "/workerd/workerd.capnp";
using Gateway = import "/gateway.capnp";

const config :Workerd.Config = (
  services = [
    (name = "narthex", worker = Gateway.narthex),
    (name = "console", worker = Gateway.console),
    (name = "state", disk = (path = $(quoted "$data/state"), writable = true)),
    (name = "internet", network = (allow = [$(networks $open)], tlsOptions = ($(trusted)))),
    (name = "private", network = (allow = [$(networks $allowed)], tlsOptions = ($(trusted)))),
  ],
  sockets = [
    $(public_socket),
    (name = "control", address = "unix:control.sock", http = (),
      service = (name = "narthex", entrypoint = "Control")),
  ],
);
END
}
