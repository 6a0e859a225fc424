# What the program prints. Lines for people go to standard error; standard output has the log, as lines of JSON.

say() {
  printf 'narthex: %s\n' "$*" >&2
}

# Faults are collected, so that all of them are named.
faults=
fault_count=0
fault() {
  faults="$faults
  - $*"
  fault_count=$((fault_count + 1))
}

# Prints the faults; fails if there are any.
no_faults() {
  [ "$fault_count" -gt 0 ] || return 0
  say "cannot start:$faults"
  return 1
}

# A text within quotes, as Cap'n Proto and JSON write it.
quoted() {
  printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}
