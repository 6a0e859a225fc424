# Secrets, and the files that have them.

# Whether only the owner and the group can read a file.
is_private() {
  [ -z "$(find -L "$1" -maxdepth 0 -perm -004 2>/dev/null)" ]
}

# The content of a secret's file, without the line's end.
secret_in() {
  tr -d '\r\n' <"$1"
}

# Takes each variable NAME from the file that NAME_FILE names.
read_secret_files() {
  while IFS= read -r name; do
    eval "file=\${${name}_FILE:-} value=\${$name:-}"
    [ -n "$file" ] || continue
    file=$(absolute "$file")
    if [ -n "$value" ]; then
      fault "both $name and ${name}_FILE are set: remove one of them"
    elif [ ! -f "$file" ] || [ ! -r "$file" ]; then
      fault "the file of ${name}_FILE cannot be read: $file"
    elif ! is_private "$file"; then
      fault "others can read the file of ${name}_FILE: chmod 600 $file, or mount it with mode 0400"
    else
      value=$(secret_in "$file")
      if [ -z "$value" ]; then fault "the file of ${name}_FILE is empty: $file"; fi
      eval "export $name=\$value"
    fi
  done <"$lib/variables"
}

# 32 random bytes in base64.
random() {
  head -c 32 /dev/urandom | base64 | tr -d '\n'
}

# Writes a secret so that the file is there as a whole or not at all.
write_secret() {
  new=$data/secrets/.$1.new
  if ! { printf '%s\n' "$2" >"$new"; } 2>/dev/null || ! [ -s "$new" ]; then
    rm -f "$new"
    fault "$data/secrets/$1 cannot be written"
    return
  fi
  sync "$new" 2>/dev/null
  mv "$new" "$data/secrets/$1"
}

# Makes the secrets of a new folder.
make_secrets() {
  mkdir -p "$data/secrets"
  if [ -z "${ADMIN_KEY:-}" ] && [ ! -e "$data/secrets/ADMIN_KEY" ]; then
    write_secret ADMIN_KEY "$(random | tr '+/' '-_' | tr -d '=')"
  fi
  if [ -z "${KEK_1:-}" ] && [ ! -e "$data/secrets/KEK_1" ]; then write_secret KEK_1 "$(random)"; fi
}

# Reads the secrets of the folder that the environment does not have.
read_secrets() {
  for file in "$data/secrets"/*; do
    [ -f "$file" ] || continue
    name=${file##*/}
    case $name in
      ADMIN_KEY | KEK_[1-9]) ;;
      *)
        fault "$file is no secret of the gateway: it may be ADMIN_KEY or KEK_1 to KEK_9"
        continue
        ;;
    esac
    if [ ! -r "$file" ]; then
      fault "$file cannot be read by this user"
    elif ! is_private "$file"; then
      fault "others can read $file: chmod 600 $file"
    else
      eval "[ -n \"\${$name:-}\" ]" || eval "export $name=\$(secret_in \"\$file\")"
    fi
  done
  check_secrets
}

check_secrets() {
  if [ -z "${ADMIN_KEY:-}" ]; then
    [ -e "$data/secrets/ADMIN_KEY" ] ||
      fault "the secret ADMIN_KEY is missing: restore $data/secrets/ADMIN_KEY from a backup, or set ADMIN_KEY"
  elif [ "${#ADMIN_KEY}" -lt 16 ]; then
    fault "ADMIN_KEY must have at least 16 characters"
  fi
  keys=
  for number in 1 2 3 4 5 6 7 8 9; do
    eval "value=\${KEK_$number:-}"
    [ -n "$value" ] || continue
    keys="$keys KEK_$number"
    value=$(plain_key "$value")
    case ${#value}$value in
      43*[!A-Za-z0-9+/]*) value= ;;
      43*) ;;
      *) value= ;;
    esac
    [ -n "$value" ] ||
      fault "KEK_$number must be 32 random bytes in base64, as \`head -c 32 /dev/urandom | base64\` prints them"
  done
  [ -n "$keys" ] || [ -e "$data/secrets/KEK_1" ] ||
    fault "the secret KEK_1 is missing: restore $data/secrets/KEK_1 from a backup, or set KEK_1"
}

# A key in one of the spellings of base64, without its padding.
plain_key() {
  printf '%s' "$1" | tr -- '-_' '+/' | tr -d '= \t'
}

# Calls `$@` with the name of each key-encryption key, and a fingerprint of it.
each_key() {
  for number in 1 2 3 4 5 6 7 8 9; do
    eval "value=\${KEK_$number:-}"
    [ -z "$value" ] || "$@" "KEK_$number" "$(printf 'narthex %s' "$(plain_key "$value")" | sha256sum | cut -c 1-16)"
  done
}

# Whether the keys are those that have encrypted what is stored.
check_keys() {
  [ -z "$first" ] || return 0
  each_key check_key
}

check_key() {
  was=$(recorded "$1")
  [ -z "$was" ] || [ "$was" = "$2" ] ||
    fault "$1 is another key than the one that has encrypted $data: restore it, from a backup of $data/secrets or from \
where you keep it"
}
