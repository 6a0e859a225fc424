# `narthex doctor`: checks what `serve` needs, with the same options, and starts nothing. It prints a line for each
# check.

# Below this, in KiB, a disk is about to be full.
least_free=65536

report() {
  printf '%-8s %s\n' "$1" "$2"
  [ "$1" = ok ] || problems=yes
}

# Reports the faults that `$2` finds, or that `$1` is well.
examine() {
  faults=
  fault_count=0
  "$2"
  report_faults "$1"
}

report_faults() {
  if [ "$fault_count" -eq 0 ]; then
    report ok "$1"
    return
  fi
  problems=yes
  printf '%s\n' "$faults" | sed -n 's/^  - /problem  /p'
}

examine_folder() {
  is_own_folder || return
  if [ ! -d "$data" ]; then
    above=$(dirname "$data")
    until [ -d "$above" ]; do above=$(dirname "$above"); done
    [ -w "$above" ] || fault "$data cannot be made by this user: $above"
    first=yes
    return
  fi
  if [ ! -w "$data" ] || { [ -e "$data/run" ] && [ ! -w "$data/run" ]; }; then
    fault "the folder cannot be written by this user: $data"
  fi
  command -v flock >/dev/null || fault "the program flock is missing: install util-linux"
  if [ -e "$data/narthex" ]; then check_folder; else begin_folder; fi
}

# The secrets of a new folder are made at its first start.
examine_secrets() {
  is_new=$first
  if [ -n "$is_new" ]; then
    ADMIN_KEY=${ADMIN_KEY:-made at the first start}
    KEK_1=${KEK_1:-$(random)}
  fi
  read_secrets
  first=$is_new
  check_keys
}

# Whether a process serves the folder.
is_served() {
  [ -e "$data/run/lock" ] && ! (flock -n 8) 8<"$data/run/lock"
}

examine_clock() {
  made=$(find "$lib/version" -newer /proc/self/stat 2>/dev/null)
  [ -z "$made" ] || 
    fault "the clock is wrong: it shows $(date -u '+%Y-%m-%d %H:%M') UTC, and this program was made later"
  if [ -d "$data/run" ] && is_clock_behind; then fault "$clock_behind"; fi
}

# The free space of the disk, in KiB.
free_space() {
  at=$data
  until [ -d "$at" ]; do at=$(dirname "$at"); done
  df -Pk "$at" | sed -n '$p' | tr -s ' ' | cut -d ' ' -f 4
}

examine_disk() {
  [ "$free" -ge "$least_free" ] || fault "the disk of $data has only $((free / 1024)) MiB free"
}

examine_authorities() {
  has_public_authorities || fault "$no_public_authorities"
}

# Asks these origins ($2), with these TLS options of the network ($1). What it prints is in `answers` then. Fails, with
# its reason, if the options cannot be used.
probe() {
  scratch=$(mktemp -d) || return
  cat >"$scratch/doctor.capnp" <<END
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "doctor", worker = .doctor),
    (name = "internet", network = (allow = [])),
    (name = "network", network = (allow = ["public", "private", "local"], tlsOptions = ($1))),
  ],
);

const doctor :Workerd.Worker = (
  modules = [(name = "doctor.mjs", esModule = embed "/doctor.mjs")],
  compatibilityDate = "2026-07-01",
  bindings = [(name = "NETWORK", service = "network"), (name = "ORIGINS", fromEnvironment = "NARTHEX_ORIGINS")],
);
END
  (
    unset ADMIN_KEY
    cd "$scratch" && NARTHEX_ORIGINS=$2 exec "$workerd" test -I"$lib" -I/ doctor.capnp >answers 2>messages
  )
  probed=$?
  answers=$(cat "$scratch/answers")
  reason=$(sed -n 's/.*TLS configuration: //p' "$scratch/messages" | head -n 1)
  rm -rf "$scratch"
  return "$probed"
}

examine_pair() {
  probe "keypair = (privateKey = embed $(quoted "$tls_key"), certificateChain = embed $(quoted "$tls_cert"))" '' ||
    fault "the certificate of --tls-cert and the key of --tls-key cannot be used: ${reason:-they cannot be read}"
}

examine_ca() {
  probe "$(trusted)" '' || fault "the certificates of --ca cannot be used: ${reason:-they cannot be read}"
}

examine_origins() {
  probe "$(trusted)" "$ALLOWED_ORIGINS" || fault "the private origins cannot be called"
  answers=$(printf '%s\n' "$answers" | grep -E '^(ok|problem) ')
  while read -r state text; do
    [ -z "$state" ] || report "$state" "$text"
  done <<END
$answers
END
}

examine_gateway() {
  if is_served; then
    (ask GET /health) >/dev/null 2>&1 || fault "the gateway does not answer, though the process $(holder) runs"
    return
  fi
  probe '' "$(url | sed 's/^https/http/')"
  case $answers in
    *ok*) fault "another process listens on $listen: choose another address with --listen" ;;
  esac
}

doctor() {
  problems=
  first=
  read_options "$@"
  valid=$([ "$fault_count" -eq 0 ] && echo yes)
  report_faults "options"
  [ -n "$data" ] || exit 1
  if is_served; then state="served by the process $(holder)"; else state=free; fi
  examine "folder $data: $state" examine_folder
  [ "$fault_count" -gt 0 ] || examine "secrets" examine_secrets
  if [ -n "$valid" ]; then
    [ -z "$tls_cert" ] || examine "certificate and key" examine_pair
    [ -z "$ca" ] || examine "certificates of --ca" examine_ca
  fi
  examine "clock" examine_clock
  free=$(free_space)
  examine "disk: $((free / 1024)) MiB free" examine_disk
  examine "public authorities" examine_authorities
  if [ -n "$valid" ]; then
    [ -z "$ALLOWED_ORIGINS" ] || examine_origins
    if is_served; then state="answers on $(url)"; else state="does not run; $listen is free"; fi
    examine "gateway $state" examine_gateway
  fi
  [ -z "$problems" ]
}
