# Reads the options, the variables, and the file that may have them. Options go before variables of the environment, and
# these before the file.

listen=
data=
config=
tls_cert=
tls_key=
ca=
grace=
rollback=
no_demo=
origins=
ip_header=

# Sets what an option stands for.
set_option() {
  case $1 in
    --data) data=$2 ;;
    --listen) listen=$2 ;;
    --config) config=$2 ;;
    --tls-cert) tls_cert=$2 ;;
    --tls-key) tls_key=$2 ;;
    --ca) ca=$2 ;;
    --grace) grace=$2 ;;
    --client-ip-header) ip_header=$2 ;;
    --allow-origin) origins=${origins:+$origins,}$2 ;;
  esac
}

read_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      --rollback) rollback=yes ;;
      --no-demo) no_demo=yes ;;
      --data=* | --listen=* | --config=* | --tls-cert=* | --tls-key=* | --ca=* | --grace=* | --client-ip-header=* | \
        --allow-origin=*)
        set_option "${1%%=*}" "${1#*=}"
        ;;
      --data | --listen | --config | --tls-cert | --tls-key | --ca | --grace | --client-ip-header | --allow-origin)
        case ${2---} in
          --*) fault "$1 needs a value" ;;
          *)
            set_option "$1" "$2"
            shift
            ;;
        esac
        ;;
      *) fault "there is no option \"$1\"; \`narthex --help\` lists them" ;;
    esac
    shift
  done
}

# The path of a file that the user has named.
absolute() {
  case $1 in
    '' | /*) printf '%s' "$1" ;;
    *) printf '%s/%s' "$start_folder" "$1" ;;
  esac
}

# Whether a variable of this name exists.
is_known() {
  case $1 in
    NARTHEX_DATA | NARTHEX_LISTEN | NARTHEX_TLS_CERT | NARTHEX_TLS_KEY | NARTHEX_CA | NARTHEX_GRACE | \
      NARTHEX_NO_DEMO) return 0 ;;
    *[!A-Z0-9_]* | '') return 1 ;;
  esac
  grep -qx -- "${1%_FILE}" "$lib/variables"
}

# Reads the file of variables: NAME=value, with # before comments, and quotes around values that need them.
read_file() {
  if [ ! -f "$1" ] || [ ! -r "$1" ]; then
    fault "the file of --config cannot be read: $1"
    return
  fi
  is_private "$1" || fault "others can read $1, which may have secrets: chmod 600 $1"
  number=0
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=$(printf '%s' "$line" | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
    case $line in
      '' | '#'*) continue ;;
    esac
    name=${line%%=*}
    value=${line#*=}
    case $line in
      *=*) ;;
      *)
        fault "$1, line $number: a line is NAME=value, not \"$line\""
        continue
        ;;
    esac
    if ! is_known "$name"; then
      fault "$1, line $number: there is no variable \"$name\""
      continue
    fi
    case $value in
      \"*\") value=${value#\"} value=${value%\"} ;;
      \'*\') value=${value#\'} value=${value%\'} ;;
    esac
    eval "[ -n \"\${$name+set}\" ]" || eval "export $name=\$value"
  done <"$1"
}

# Takes from the environment what no option has said.
read_environment() {
  data=$(absolute "${data:-${NARTHEX_DATA:-}}")
  listen=${listen:-${NARTHEX_LISTEN:-127.0.0.1:8787}}
  tls_cert=$(absolute "${tls_cert:-${NARTHEX_TLS_CERT:-}}")
  tls_key=$(absolute "${tls_key:-${NARTHEX_TLS_KEY:-}}")
  ca=$(absolute "${ca:-${NARTHEX_CA:-}}")
  grace=${grace:-${NARTHEX_GRACE:-30}}
  no_demo=${no_demo:-${NARTHEX_NO_DEMO:-}}
  if [ -n "$origins" ]; then ALLOWED_ORIGINS=$origins; fi
  if [ -n "$ip_header" ]; then CLIENT_IP_HEADER=$ip_header; fi
  export ALLOWED_ORIGINS="${ALLOWED_ORIGINS:-}" CLIENT_IP_HEADER="${CLIENT_IP_HEADER:-}"
}

check_listen() {
  port=${listen##*:}
  host=${listen%:*}
  case $listen in *:*) ;; *) host= ;; esac
  case $host in
    '' | *[!A-Za-z0-9.:_%-]*)
      case $host in \[*\]) ;; *) host= ;; esac
      ;;
    *:*) host= ;;
  esac
  case $port in '' | *[!0-9]* | ??????*) port=0 ;; esac
  if [ -z "$host" ] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
    fault "--listen must be an address with a port, such as 127.0.0.1:8787 or [::]:8787, not \"$listen\""
  fi
}

check_tls() {
  if [ -n "$tls_cert" ] && [ -z "$tls_key" ]; then fault "--tls-cert needs --tls-key, the key of the certificate"; fi
  if [ -z "$tls_cert" ] && [ -n "$tls_key" ]; then fault "--tls-key needs --tls-cert, the certificate of the key"; fi
  for file in "--tls-cert:$tls_cert:CERTIFICATE" "--tls-key:$tls_key:PRIVATE KEY" "--ca:$ca:CERTIFICATE"; do
    option=${file%%:*}
    path=${file#*:}
    path=${path%:*}
    [ -n "$path" ] || continue
    if [ ! -f "$path" ] || [ ! -r "$path" ]; then
      fault "the file of $option cannot be read: $path"
    elif ! grep -q -- "-----BEGIN .*${file##*:}-----" "$path"; then
      fault "the file of $option has no ${file##*:} in PEM: $path"
    fi
  done
  if [ -f "$tls_key" ] && ! is_private "$tls_key"; then fault "others can read $tls_key: chmod 600 $tls_key"; fi
}

# `serve` and `doctor` need what they are told; every fault is named. `health` needs only the folder.
read_options() {
  start_folder=$(pwd -P)
  read_arguments "$@"
  config=${config:-${NARTHEX_CONFIG:-}}
  [ -z "$config" ] || read_file "$(absolute "$config")"
  read_environment
  if [ -z "$data" ]; then fault "--data is missing: the folder of everything that is stored"; fi
  case $data$tls_cert$tls_key$ca in
    *[[:cntrl:]]*) fault "the names of files and folders must not have control characters" ;;
  esac
  case $grace in
    '' | *[!0-9]* | ?????*) fault "--grace must be a number of seconds from 0 to 9999, not \"$grace\"" ;;
  esac
  if [ "$command" = health ]; then
    no_faults || exit 2
    return 0
  fi
  check_listen
  check_tls
  check_origins
  read_secret_files
  [ "$command" = doctor ] || no_faults || exit 2
}
