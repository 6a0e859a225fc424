# The process of workerd: starts it, waits until it serves, starts it again when it dies, and stops it.

# Asks the gateway: control METHOD PATH [HEADER]. Prints the response; fails if it is not a success.
control() {
  (
    cd "$data/run" || exit 1
    NARTHEX_REQUEST=$* "$lib/workerd" test -I"$lib" "$lib/control.capnp" 2>run.err 9>&-
  )
}

health() {
  if [ ! -S "$data/run/control.sock" ]; then
    say "nothing serves $data"
    exit 1
  fi
  control GET /health
}

# workerd's own messages become lines of the log. It ends with workerd, at the end of the pipe.
follow_messages() {
  while IFS= read -r line; do
    case $line in
      'stack: '* | '' | *NOSENTRY*) continue ;;
      *'Address already in use'*) echo "another process listens on $listen: choose another address with --listen" ;;
      *KeyMismatch*) echo "the key of --tls-key does not belong to the certificate of --tls-cert" ;;
      *'TLS configuration'*) echo "the files of --tls-cert, --tls-key or --ca cannot be used: ${line##*TLS configuration: }" ;;
      *'Permission denied'*) echo "no permission: ${line#*workerd}" ;;
      *"Can't assign"* | *'Cannot assign requested address'*) echo "this machine has no address ${listen%:*}" ;;
    esac >>reasons
    line=$(printf '%s' "$line" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g')
    printf '{"level":"warn","message":"runtime","version":"%s","detail":"%s"}\n' "$version" "$line"
  done <messages
}

# Starts workerd in the folder of its socket, so that the path of the socket is short. It dies with this process.
start_workerd() {
  cd "$data/run" || return 1
  rm -f control.sock messages
  : >reasons
  mkfifo messages
  follow_messages &
  if command -v setpriv >/dev/null; then
    setpriv --pdeathsig KILL "$lib/workerd" serve -I"$lib" -I/ serve.capnp 2>messages &
  else
    "$lib/workerd" serve -I"$lib" -I/ serve.capnp 2>messages &
  fi
  pid=$!
}

is_running() {
  kill -0 "$1" 2>/dev/null
}

# Waits until the gateway can serve. Fails with its reason in `reason`.
become_ready() {
  NARTHEX_WAIT=60 control POST "/start ${first:+first-start}" >started &
  asking=$!
  while is_running "$asking"; do
    if ! is_running "$pid"; then
      kill "$asking" 2>/dev/null
      wait "$asking" 2>/dev/null
      reason=$(head -n 1 reasons)
      reason=${reason:-"workerd ended at once: $(head -c 300 run.err)"}
      return 1
    fi
    sleep 0.05
  done
  wait "$asking" && return 0
  reason=$(sed -n 's/.*"detail":"\([^"]*\)".*/\1/p' started)
  reason=${reason:-"the gateway does not answer: $(head -c 300 started)"}
  return 1
}

# The address to call; a wildcard address is replaced by one that can be called.
url() {
  case $listen in
    0.0.0.0:*) called=127.0.0.1:${listen##*:} ;;
    '[::]:'*) called="[::1]:${listen##*:}" ;;
    *) called=$listen ;;
  esac
  if [ -n "$tls_cert" ]; then printf 'https://%s' "$called"; else printf 'http://%s' "$called"; fi
}

print_first_steps() {
  key="\$(cat $data/secrets/ADMIN_KEY)"
  [ -e "$data/secrets/ADMIN_KEY" ] || key="\$ADMIN_KEY"
  say "version $version serves on $(url) – the console too. To begin:

  curl -s $(url)/v1/chat/completions -H \"Authorization: Bearer $key\" -H 'Content-Type: application/json' \\
    -d '{\"model\": \"demo\", \"messages\": [{\"role\": \"user\", \"content\": \"Good morning\"}]}'
"
}

# The first signal: takes no more requests, and lets running calls end. The second ends everything at once.
stop() {
  if [ -n "$stopping" ]; then
    say "ends at once; what was running is left to its leases"
    kill -KILL "$pid" 2>/dev/null
    return
  fi
  stopping=yes
}

# After the first signal.
end_calls() {
  say "stopping: running calls have $grace s to end"
  NARTHEX_STREAM=yes control POST /stop >stopping &
  asking=$!
  waited=0
  # workerd closes its sockets at SIGTERM, so it must have heard of the end before.
  while is_running "$asking" && [ ! -s stopping ] && [ "$waited" -lt 20 ]; do
    sleep 0.05
    waited=$((waited + 1))
  done
  kill -TERM "$pid" 2>/dev/null
  waited=0
  idle=0
  while is_running "$pid"; do
    # Once no call runs, only those who watch are connected. They connect again.
    is_running "$asking" || idle=$((idle + 1))
    if [ "$idle" -gt 20 ] || [ "$waited" -ge $((grace * 10)) ]; then
      [ "$idle" -gt 20 ] || say "some calls have not ended; they are left to their leases"
      kill -KILL "$pid" 2>/dev/null
      break
    fi
    sleep 0.1
    waited=$((waited + 1))
  done
  wait "$pid" 2>/dev/null
  say "stopped"
}

# Waits until workerd has ended or a signal has arrived.
attend() {
  while is_running "$pid" && [ -z "$stopping" ]; do wait "$pid"; done
}

serve() {
  start_folder=$(pwd -P)
  open_folder
  no_faults || exit 1
  check_clock
  write_configuration
  record_folder "$([ -z "$first" ] && echo yes || echo no)"
  stopping=
  trap stop TERM INT HUP
  vain=0
  pause=1
  while [ -z "$stopping" ]; do
    start_workerd
    if become_ready; then
      record_folder yes
      if [ -z "${served:-}" ]; then print_first_steps; else say "serves again on $(url)"; fi
      first= served=yes vain=0 pause=1
    elif [ -z "$stopping" ]; then
      kill -KILL "$pid" 2>/dev/null
      vain=$((vain + 1))
      if [ -z "${served:-}" ] || [ "$vain" -ge 5 ]; then
        say "cannot serve: $reason"
        exit 1
      fi
    fi
    attend
    [ -z "$stopping" ] || break
    wait "$pid" 2>/dev/null
    say "workerd has ended (status $?) and is started again in $pause s; everything that was stored is kept"
    sleep "$pause"
    [ "$pause" -ge 10 ] || pause=$((pause * 2))
  done
  end_calls
  exit 0
}
