# The process of workerd: starts it, waits until it serves, starts it again when it dies, and stops it.

# Asks the gateway, in place of a shell: (ask METHOD PATH [HEADER]). Prints the response; fails if it is not a success.
ask() {
  cd "$data/run" || exit 1
  NARTHEX_REQUEST=$* exec "$workerd" test -I"$lib" "$lib/control.capnp" 2>run.err 9>&-
}

health() {
  if [ ! -S "$data/run/control.sock" ]; then
    say "nothing serves $data"
    exit 1
  fi
  (ask GET /health) || {
    say "the gateway does not answer"
    exit 1
  }
}

# workerd's own messages become lines of the log. It ends with workerd, at the end of the pipe.
follow_messages() {
  while IFS= read -r line; do
    case $line in
      'stack: '* | '' | *NOSENTRY*) continue ;;
      *'Address already in use'*) echo "another process listens on $listen: choose another address with --listen" ;;
      *'No CA certificates'*) echo "$no_public_authorities" ;;
      *KeyMismatch*) echo "the key of --tls-key does not belong to the certificate of --tls-cert" ;;
      *'TLS configuration'*)
        echo "the files of --tls-cert, --tls-key or --ca cannot be used: ${line##*TLS configuration: }"
        ;;
      *'Permission denied'*) echo "no permission: ${line#*workerd}" ;;
      *'DNS lookup failed'* | *'Cannot assign requested address'*) echo "this machine has no address ${listen%:*}" ;;
      *' failed: '* | 'service '*) echo "$line" ;;
    esac >>reasons
    case $line in
      *[\\\"[:cntrl:]]*) line=$(printf '%s' "$line" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g') ;;
    esac
    printf '{"level":"warn","message":"runtime","version":"%s","detail":"%s"}\n' "$version" "$line"
  done <messages 2>/dev/null
}

# Starts workerd in the folder of its socket, so that the path of the socket is short. Where the system can do it,
# workerd dies with this process. Signals of the terminal are for this process alone.
start_workerd() {
  cd "$data/run" || return 1
  rm -f control.sock messages workerd.pid
  # workerd maps this file into memory; the same as text would take 25 MiB more.
  if ! "$workerd" compile --config-only -I"$lib" -I/ serve.capnp >serve.bin 2>run.err 9>&-; then
    reason="the configuration cannot be used: $(head -c 300 run.err)"
    return 1
  fi
  { : >reasons && mkfifo messages; } 2>/dev/null || return 1
  follow_messages 9>&- &
  follower=$!
  tie=
  if setpriv --pdeathsig KILL true 2>/dev/null; then tie='setpriv --pdeathsig KILL'; fi
  (
    trap '' INT HUP
    # shellcheck disable=SC2086
    exec $tie "$workerd" serve --binary serve.bin 2>messages
  ) &
  pid=$!
  echo "$pid" >workerd.pid
}

is_running() {
  kill -0 "$1" 2>/dev/null
}

# Waits this many seconds, or until a signal arrives.
doze() {
  sleep "$1" >/dev/null 2>&1 9>&- &
  napping=$!
  wait "$napping"
  kill "$napping" 2>/dev/null
}

# Waits until the gateway can serve. Fails with its reason in `reason`, or after a signal.
become_ready() {
  demo=${first:+with-demo}
  [ -z "$no_demo" ] || demo=
  (NARTHEX_WAIT=60 && export NARTHEX_WAIT && ask POST "/start $demo") >started &
  asking=$!
  while is_running "$asking" && is_running "$pid" && [ -z "$stopping" ]; do sleep 0.05; done
  if [ -n "$stopping" ] || ! is_running "$pid"; then
    kill "$asking" 2>/dev/null
    [ -z "$stopping" ] || return 1
    wait "$follower"
    reason=$(head -n 1 reasons)
    reason=${reason:-"workerd ended at once; its messages are in the log"}
    return 1
  fi
  # The mapping keeps the file for as long as workerd runs.
  rm -f serve.bin
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
  key="\$(cat '$(printf '%s' "$data" | sed "s/'/'\\\\''/g")/secrets/ADMIN_KEY')"
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
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    return
  fi
  stopping=yes
}

# After the first signal.
end_calls() {
  if [ -z "$ready" ]; then
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
    return
  fi
  say "stopping: running calls have $grace s to end"
  (ask POST /stop) >stopping 2>/dev/null &
  asking=$!
  waited=0
  # workerd refuses nothing by itself: sent SIGTERM, it lets new connections wait until it ends.
  while is_running "$pid" && ! no_call_runs && [ "$waited" -lt $((grace * 10)) ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  kill -TERM "$pid" 2>/dev/null
  if is_running "$pid" && ! no_call_runs; then
    say "some calls have not ended; they are left to their leases"
    kill -KILL "$pid" 2>/dev/null
  fi
  # Responses end. Those who watch are connected still, and connect again.
  waited=0
  while is_running "$pid" && [ "$waited" -lt 10 ]; do
    sleep 0.1
    waited=$((waited + 1))
  done
  kill -KILL "$pid" 2>/dev/null
  kill "$asking" 2>/dev/null
  wait "$pid" 2>/dev/null
  rm -f pid workerd.pid control.sock
}

# Whether the gateway has said that no call runs. If workerd was sent a signal too, it cannot be asked, and its calls
# have all of the time.
no_call_runs() {
  if [ -z "$answered" ]; then
    ! is_running "$asking" || return 1
    wait "$asking"
    answered=$?
  fi
  [ "$answered" -eq 0 ]
}

# Waits until workerd has ended or a signal has arrived.
attend() {
  while is_running "$pid" && [ -z "$stopping" ]; do
    # A shell says by itself how a process has died.
    wait "$pid" 2>/dev/null
    outcome=$?
  done
}

# After a start in vain: the next one once there is room, or the end.
give_up() {
  [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null
  if ! has_room; then
    await_room
    return
  fi
  vain=$((vain + 1))
  if [ -z "$served" ] || [ "$vain" -ge 5 ]; then
    say "cannot serve: $reason"
    exit 1
  fi
  say "cannot serve: $reason; the next try is in $pause s"
}

# Starts workerd, and serves until it ends or a signal arrives.
serve_once() {
  ready=
  pid=
  reason="$data/run cannot be written"
  record_folder "$([ -z "$first" ] && echo yes || echo no)" && write_configuration && start_workerd && become_ready ||
    return
  ready=yes
  first=
  record_folder yes
  if [ -z "$served" ]; then print_first_steps; else say "serves again on $(url)"; fi
  served=yes
  vain=0
  pause=1
  attend
}

serve() {
  stopping=
  answered=
  served=
  ready=
  pid=
  trap stop TERM INT HUP
  open_folder
  no_faults || exit 1
  if is_clock_behind; then say "$clock_behind"; fi
  has_public_authorities || say "$no_public_authorities"
  # Each connection and each open object takes files. All shells know both options.
  # shellcheck disable=SC3045
  ulimit -Sn "$(ulimit -Hn)" 2>/dev/null
  vain=0
  pause=1
  until [ -n "$stopping" ]; do
    if serve_once || [ -n "$stopping" ]; then :; else give_up; fi
    [ -z "$stopping" ] || break
    [ -z "$ready" ] ||
      say "workerd has ended (status $outcome) and is started again in $pause s; everything that was stored is kept"
    doze "$pause"
    [ "$pause" -ge 10 ] || pause=$((pause * 2))
  done
  end_calls
  say "stopped"
  exit 0
}
