# The data folder:
#
#   narthex        what the folder is: its format, and the version that used it last
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
  if ! mkdir -p "$data/run" 2>/dev/null || ! : >"$data/run/.written"; then
    fault "the folder cannot be written by this user: $data"
    return
  fi 2>/dev/null
  rm -f "$data/run/.written"
  data=$(cd "$data" && pwd -P)
  lock_folder || return
  first=
  if [ -e "$data/narthex" ]; then check_folder; else begin_folder; fi
  [ "$fault_count" -eq 0 ] || return
  [ -z "$first" ] || make_secrets
  read_secrets
}

# Holds the lock as long as this process or workerd runs; the system ends it with them, however they end.
lock_folder() {
  command -v flock >/dev/null || {
    fault "the program flock is missing: install util-linux"
    return 1
  }
  exec 9>>"$data/run/lock"
  if ! flock -n 9; then
    fault "another process serves $data: $(cat "$data/run/pid" 2>/dev/null || echo 'its id is unknown')"
    return 1
  fi
  echo $$ >"$data/run/pid"
}

# A folder without the file `narthex` must be empty: it is not the gateway's, or what is in it is only a part.
begin_folder() {
  if [ -e "$data/state" ]; then
    fault "$data/state exists, but $data/narthex does not: restore the whole folder from a backup, or use an empty one"
    return
  fi
  other=$(find "$data" -mindepth 1 -maxdepth 1 ! -name run ! -name secrets ! -name lost+found | head -n 3)
  if [ -n "$other" ]; then
    fault "$data has other files and is no data folder of the gateway: use an empty one. It has $(echo "$other" | tr '\n' ' ')"
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
    fault "version $by has written $data in a later format ($written; this version, $version, reads up to $format): start version $by or a later one"
  elif is_later "$by" "$version" && [ -z "$rollback" ]; then
    fault "the later version $by has used $data; this is $version. Start version $by or a later one. To go back on purpose, read the page of upgrades, then add --rollback"
  fi
  if [ ! -d "$data/state" ]; then
    fault "$data/state is missing: restore the whole folder from a backup, or use an empty one"
  elif [ "$(recorded served)" = yes ] && ! ls "$data/state/narthex-Registry"/*.sqlite >/dev/null 2>&1; then
    fault "$data/state is incomplete, the registry is missing: restore the whole folder from a backup"
  fi
  [ "$(recorded served)" = yes ] || first=yes
}

# Records which version uses the folder; `$1` is yes once it has served.
record_folder() {
  mkdir -p "$data/state"
  printf 'format %s\nversion %s\ncommit %s\nserved %s\n' "$format" "$version" "$commit" "$1" >"$data/run/.narthex"
  mv "$data/run/.narthex" "$data/narthex"
}

# Compares the clock with what is stored. A clock that was set back delays what waits for a time.
check_clock() {
  newest=$(find "$data/state" -type f -newermt '1 minute' 2>/dev/null | head -n 1)
  [ -z "$newest" ] || say "the clock is behind: $newest was written later than now. Set the clock. Until it has caught up, retries, schedules and expiries are late by the difference; nothing is lost"
}
