#!/usr/bin/env bash
# Builds the Debian package in target/debian, installs it, runs the program from where it is installed, and removes it again.
#
# It is installed into a temporary folder: by dpkg as root, unpacked only as another user. INSTALL=system installs it into this
# system with dpkg -i, as root. BUILD=no packages the existing target/release/bench.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }

command -v cargo-deb >/dev/null || fail "cargo-deb is missing: cargo install cargo-deb --locked"
command -v dpkg-deb >/dev/null || fail "dpkg-deb is missing; the package can be built on Debian and its derivatives"
# The assets in Cargo.toml are below target.
unset CARGO_TARGET_DIR

step "the program, its manual and its completions"
[ "${BUILD:-yes}" = no ] || cargo build --release --locked --bin bench
bench=target/release/bench
[ -x "$bench" ] || fail "$bench is missing"
generated=target/packaging
rm -rf "$generated"
mkdir -p "$generated/completions"
pages=$("$bench" man "$generated/man" | wc -l)
gzip -9n "$generated"/man/*.1
"$bench" completions bash >"$generated/completions/bench"
"$bench" completions zsh >"$generated/completions/_bench"
"$bench" completions fish >"$generated/completions/bench.fish"
echo "$pages pages"

step "the package"
package=$(cargo deb --locked --no-build --strip | tail -n 1)
[ -f "$package" ] || fail "no package: $package"
name=$(dpkg-deb --field "$package" Package)
echo "$package: $(stat -c %s "$package") B, installed $(dpkg-deb --field "$package" Installed-Size) KiB"
dpkg-deb --contents "$package"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
root=$temporary/root
options=()
case "${INSTALL:-folder},$(id -u)" in
  system,0)
    step "install into this system with dpkg -i"
    if dpkg -s "$name" >/dev/null 2>&1; then fail "$name is installed already; remove it first"; fi
    root=
    trap 'dpkg --purge "$name" >/dev/null 2>&1 || true; rm -rf "$temporary"' EXIT
    dpkg -i "$package"
    ;;
  system,*) fail "INSTALL=system needs root" ;;
  folder,0)
    step "install into a temporary folder with dpkg --root"
    mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
    touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
    # The folder has neither a shell for the scripts nor the packages that this one depends on.
    options=(--root="$root" --force-script-chrootless --force-depends)
    dpkg "${options[@]}" -i "$package"
    ;;
  folder,*)
    step "unpack into a temporary folder, without dpkg's records, because this is not root"
    dpkg-deb --extract "$package" "$root"
    ;;
  *) fail "INSTALL is ${INSTALL:-}; expected folder or system" ;;
esac

step "run it"
installed=$root/usr/bin/bench
"$installed" --version
output=$(cd "$temporary" && "$installed" udp --mb 100 --chunk 1000 --no-save)
printf '%s\n' "$output"
grep -Eq 'sent 100,000, received 100,000, unique 100,000' <<<"$output" || fail "not every datagram arrived"
[ "$(find "$root/usr/share/man/man1" -name 'bench*.1.gz' | wc -l)" -eq "$pages" ] || fail "not $pages pages are installed"
bash -n "$root/usr/share/bash-completion/completions/bench" || fail "the bash completion is invalid"
wanted=$(find "$root/etc/systemd" "$root/lib/systemd/system" -name '*wirebench*' -path '*.wants/*' 2>/dev/null || true)
[ -z "$wanted" ] || fail "a unit is enabled: $wanted"

step "remove it"
mapfile -t files < <(dpkg-deb --fsys-tarfile "$package" | tar -t | sed -n 's|^\./||; /[^/]$/p')
if [ -n "$root" ] && [ "$(id -u)" -ne 0 ]; then
  echo "the folder is removed"
  exit 0
fi
dpkg "${options[@]}" --purge "$name"
for file in "${files[@]}"; do
  [ ! -e "$root/$file" ] || fail "$root/$file is left behind"
done
echo "nothing is left of ${#files[@]} files"
