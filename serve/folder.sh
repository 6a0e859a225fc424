# The data folder:
#
#   narthex        what the folder is: its format, the version that used it last, and which keys have encrypted it
#   secrets/       ADMIN_KEY and KEK_1, unless the environment has them
#   state/         the storage of the objects: what the gateway stores
#   run/           what belongs to the running process: lock, socket, configuration
#
# The format changes when a version cannot be followed by the one before; see the page of upgrades.
format=1

# A member of the file `narthex`.
recorded() {
  sed -n "s/^$1 //p" "$data/narthex"
}

# Whether version $1 is later than version $2, by their numbers.
is_later() {
  [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -t. -k1,1n -k2,2n -k3,3n | tail -n 1)" = "$1" ]
}

# Makes or opens the folder; sets `first` if nothing was stored in it yet.
open_folder() {
  is_own_folder && make_folder && lock_folder || return
  await_room
  first=
  if [ -e "$data/narthex" ]; then check_folder; else begin_folder; fi
  [ "$fault_count" -eq 0 ] || return
  [ -z "$first" ] || make_secrets
  read_secrets
  check_keys
}

# A folder without the file `narthex` must be empty: otherwise it is not the gateway's. Nothing is written into such a
# folder.
is_own_folder() {
  if [ ! -d "$data" ]; then
    [ ! -e "$data" ] || fault "$data is a file: --data is a folder"
  elif [ ! -r "$data" ] || [ ! -x "$data" ]; then
    fault "the folder cannot be read by this user: $data"
  elif [ ! -e "$data/narthex" ]; then
    other=$(find "$data" -mindepth 1 -maxdepth 1 \
      ! -name run ! -name secrets ! -name state ! -name lost+found | head -n 3 | tr '\n' ' ')
    [ -z "$other" ] ||
      fault "$data has other files and is no data folder of the gateway: use an empty one. It has ${other% }"
  fi
  [ "$fault_count" -eq 0 ]
}

make_folder() {
  if ! problem=$(mkdir -p "$data/run" 2>&1) || ! problem=$(touch "$data/run/lock" 2>&1); then
    fault "the folder cannot be written by this user: $data (${problem##*: })"
    return 1
  fi
  data=$(cd "$data" && pwd -P)
}

# Holds the lock as long as this process or workerd runs; the system ends it with them, however they end.
lock_folder() {
  command -v flock >/dev/null || {
    fault "the program flock is missing: install util-linux"
    return 1
  }
  exec 9>>"$data/run/lock"
  tries=0
  until flock -n 9; do
    tries=$((tries + 1))
    # What a killed process has left behind ends within moments.
    if [ "$tries" -gt 10 ]; then
      fault "another process serves $data: $(holder)"
      return 1
    fi
    sleep 0.1
  done
  { echo $$ >"$data/run/pid"; } 2>/dev/null
}

# Which process holds the lock. Where it was killed and workerd could not be tied to it, workerd runs on.
holder() {
  for name in pid workerd.pid; do
    read -r number <"$data/run/$name" 2>/dev/null || continue
    if kill -0 "$number" 2>/dev/null || [ -e "/proc/$number" ]; then
      echo "$number"
      return
    fi
  done
  echo "its id is unknown"
}

# Whether what is written at a start has room. Zeros might be stored without taking any.
has_room() {
  head -c 65536 /dev/urandom >"$data/run/room" 2>/dev/null
  written=$?
  if [ "$written" -eq 0 ]; then
    head -c 16711680 /dev/zero >>"$data/run/room" 2>/dev/null
    written=$?
  fi
  rm -f "$data/run/room"
  [ "$written" -eq 0 ]
}

# Waits until the disk has room.
await_room() {
  waiting=
  until has_room; do
    [ -n "$waiting" ] || say "the disk of $data is full; the gateway starts when 16 MiB are free"
    waiting=yes
    doze 2
    [ -z "$stopping" ] || exit 0
  done
  [ -z "$waiting" ] || say "the disk has room again"
}

begin_folder() {
  if [ -e "$data/state" ]; then
    fault "$data/state exists, but $data/narthex does not: restore the whole folder from a backup, or use an empty one"
    return
  fi
  first=yes
}

check_folder() {
  written=$(recorded format)
  by=$(recorded version)
  case $written in
    '' | *[!0-9]*)
      fault "$data/narthex is not what the gateway writes: restore the whole folder from a backup, or use an empty one"
      return
      ;;
  esac
  if [ "$written" -gt "$format" ]; then
    fault "version $by has written $data in a later format ($written; this version, $version, reads up to $format): \
start version $by or a later one"
  elif is_later "$by" "$version" && [ -z "$rollback" ]; then
    fault "the later version $by has used $data; this is $version. Start version $by or a later one. To go back on \
purpose, read the page of upgrades, then add --rollback"
  fi
  if [ "$(recorded served)" != yes ]; then
    first=yes
  elif [ ! -d "$data/state" ]; then
    fault "$data/state is missing: restore the whole folder from a backup, or use an empty one"
  elif ! ls "$data/state/narthex-Registry"/*.sqlite >/dev/null 2>&1; then
    fault "$data/state is incomplete, the registry is missing: restore the whole folder from a backup"
  fi
}

# Records which version uses the folder; `$1` is yes once it has served. The file is there as a whole or not at all.
record_folder() {
  {
    printf 'format %s\nversion %s\ncommit %s\nserved %s\n' "$format" "$version" "$commit" "$1"
    each_key printf '%s %s\n'
  } >"$data/run/.narthex" 2>/dev/null || return
  if [ "$(cat "$data/run/.narthex")" != "$(cat "$data/narthex" 2>/dev/null)" ]; then
    sync "$data/run/.narthex" 2>/dev/null
    mv "$data/run/.narthex" "$data/narthex"
  fi
  mkdir -p "$data/state"
}

# Compares the clock with the time of the latest sweep, of which there is one each minute.
is_clock_behind() {
  touch -d "@$(($(date +%s) + 60))" "$data/run/soon" 2>/dev/null || return 1
  newest=$(find "$data/state/narthex-Sweeper" -type f -newer "$data/run/soon" 2>/dev/null | head -n 1)
  rm -f "$data/run/soon"
  [ -n "$newest" ]
}

# What an operator should know of a clock that was set back.
clock_behind="the clock was set back: the folder was used at a time that is yet to come. Until the clock has caught \
up, retries, schedules and expiries are late by the difference; nothing is lost"
