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
  printf '%s\n' "$2" >"$data/secrets/.$1.new" && sync "$data/secrets/.$1.new" 2>/dev/null
  mv "$data/secrets/.$1.new" "$data/secrets/$1"
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
  for name in ADMIN_KEY KEK_1; do
    eval "value=\${$name:-}"
    if [ -z "$value" ] && [ "$name" = KEK_1 ] && [ -n "${KEK_2:-}${KEK_3:-}${KEK_4:-}" ]; then continue; fi
    if [ -z "$value" ]; then
      fault "the secret $name is missing: restore $data/secrets/$name from a backup, or set $name in the environment"
    fi
  done
}
